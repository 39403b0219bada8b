//! What is left of a terminal.

use std::process::{Command, Stdio};
use std::{env, fs};

use super::Screen;

/// The start and the end of what is drawn beside what the terminal shows, and the cursor's return
/// (xterm's private modes, ctlseqs).
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// Set where this test runs again, in a terminal that `script` makes.
const IN_TERMINAL: &str = "PROXY_AGENT_TEST_IN_TERMINAL";

fn panic_on_the_screen() {
    let mut screen = Screen::take().unwrap();
    screen.0.hide_cursor().unwrap();
    panic!("while it draws");
}

#[test]
fn a_panic_leaves_the_terminal_as_it_was() {
    if env::var_os(IN_TERMINAL).is_some() {
        panic_on_the_screen();
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let program = env::current_exe().unwrap();
    let line = format!(
        "stty -g; {} --exact --nocapture cli::top::tests::a_panic_leaves_the_terminal_as_it_was; stty -g",
        program.display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--command", &line]).arg(&record);
    script.env(IN_TERMINAL, "1");
    let mut script = script
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The end of the input would end the terminal.
    let input = script.stdin.take();
    assert!(script.wait().unwrap().success());
    drop(input);
    let record = fs::read(&record).unwrap();
    let record = String::from_utf8_lossy(&record);
    assert_is_restored(&record);
    let (_, after) = record.split_once(LEAVE).unwrap();
    assert!(
        after.contains("while it draws"),
        "the message is seen: {after}"
    );
}

/// What a terminal has shown between two `stty -g`: the settings are the same, and so is the
/// screen.
fn assert_is_restored(record: &str) {
    let is_state = |word: &&str| word.matches(':').count() > 10;
    let states: Vec<_> = record.split_whitespace().filter(is_state).collect();
    assert!(
        matches!(states[..], [before, after] if before == after),
        "{states:?}"
    );
    let (_, drawn) = record.split_once(ENTER).expect("the screen is taken");
    let (drawn, _) = drawn.split_once(LEAVE).expect("and given back");
    assert!(
        !drawn.contains(ENTER) && record.contains(SHOW_CURSOR),
        "{record}"
    );
}
