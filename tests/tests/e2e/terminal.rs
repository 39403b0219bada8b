//! `proxy-agent top` on a terminal.

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

#[test]
fn a_signal_ends_the_view_and_leaves_the_terminal_as_it_was() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.start()?;
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
        .args(["-c", r#"mkfifo "$0" && exec script "$@" <>"$0""#])
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
