//! Commands on a terminal.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proxy_tests::lab::Process;

use crate::restarts::Lasting;
use crate::world::agent_program;

const PATIENCE: Duration = Duration::from_secs(30);

/// xterm's private modes for a screen beside what is shown, and back (ctlseqs).
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// Makes the input of a terminal at which nobody types, the file `$0`. Where the input ends, the
/// terminal does.
const KEYS: &str = r#"[ -p "$0" ] || mkfifo "$0";"#;

/// What starts a colour or another style (ECMA-48, SGR).
const STYLE: &str = "\x1b[";

#[test]
fn what_is_drawn_is_for_the_terminal_and_gone_after_a_signal() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.start()?;
    colours_are_for_terminals_only(&it)?;
    let folder = it.world.cluster.directory.path();
    let (pid, record) = (folder.join("pid"), folder.join("record"));
    // What is shown is also the process's output, from which this test reads.
    let line = format!(
        "stty rows 24 cols 100; stty -g; sh -c 'echo $$ > {}; exec {} top'; echo status $?; stty -g",
        pid.display(),
        agent_program().display()
    );
    let node = &it.world.cluster.nodes[0].namespace;
    // Nothing is typed, but the input does not end either, which would end the terminal.
    let mut script = node.command_with(Some(&it.bpffs), "sh");
    script
        .args(["-c", &format!(r#"{KEYS} exec script "$@" <>"$0""#)])
        .arg(folder.join("keys"))
        .args(["--quiet", "--flush", "--command", &line])
        .arg(&record);
    let mut process = Process::spawn("proxy-agent top", script)?;
    // The screen is no lines: what was written to the record is looked at as it comes.
    let has_drawn = || fs::read_to_string(&record).is_ok_and(|text| text.contains("default/web"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while !has_drawn() {
        let shown = fs::read_to_string(&record).unwrap_or_default();
        anyhow::ensure!(std::time::Instant::now() < deadline, "{shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = fs::read_to_string(&pid)?;
    let killed = node.command("kill").arg(pid.trim()).status()?;
    assert!(killed.success());
    process.wait(PATIENCE)?;

    let record = fs::read_to_string(&record)?;
    let is_state = |word: &&str| word.matches(':').count() > 10;
    let states: Vec<_> = record.split_whitespace().filter(is_state).collect();
    assert_eq!(states.len(), 2, "{record}");
    assert_eq!(states[0], states[1]);
    let (_, drawn) = record.split_once(ENTER).context("the screen is taken")?;
    let (_, after) = drawn.split_once(LEAVE).context("and given back")?;
    assert!(after.contains("status 0"), "{after}");
    Ok(())
}

fn colours_are_for_terminals_only(it: &Lasting) -> Result<()> {
    let node = &it.world.cluster.nodes[0].namespace;
    let printed = |on_terminal: bool, no_color: &str| -> Result<String> {
        let agent = agent_program();
        let command = format!("{} backends", agent.display());
        let mut shell = node.command_with(Some(&it.bpffs), "sh");
        // Nothing is typed, but the input does not end either.
        let line = if on_terminal {
            format!("{KEYS} script --quiet --command '{command}' /dev/null <>\"$0\"")
        } else {
            command
        };
        shell
            .args(["-c", &line])
            .arg(it.world.cluster.directory.path().join("keys"))
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color);
        let output = shell.output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let seen = printed(true, "")?;
    assert!(seen.contains("serving") && seen.contains(STYLE), "{seen:?}");
    for (on_terminal, no_color) in [(true, "1"), (false, "")] {
        let plain = printed(on_terminal, no_color)?;
        assert!(
            plain.contains("serving") && !plain.contains(STYLE),
            "{plain:?}"
        );
    }
    Ok(())
}
