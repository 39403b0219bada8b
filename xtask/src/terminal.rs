//! Colours, where a person is looking, and lines that tell of progress.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| {
        let declined = env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        io::stdout().is_terminal() && !declined
    })
}

fn paint(code: &str, text: &str) -> String {
    if coloured() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// For what is as it should be.
pub(crate) fn green(text: &str) -> String {
    paint("32", text)
}

/// For what is not.
pub(crate) fn red(text: &str) -> String {
    paint("31", text)
}

/// For headings.
pub(crate) fn bold(text: &str) -> String {
    paint("1", text)
}

/// For what one may skip.
pub(crate) fn dim(text: &str) -> String {
    paint("2", text)
}

static IS_STDOUT_KEPT: AtomicBool = AtomicBool::new(false);

/// From now on progress goes to stderr: stdout is for a program to read.
pub(crate) fn keep_stdout_for_results() {
    IS_STDOUT_KEPT.store(true, Ordering::Relaxed);
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    tell(&format!("\n{}", bold(text)));
}

/// Prints a line of a list, what its state is in front.
pub(crate) fn item(state: &str, text: &str) {
    tell(&format!("  {} {text}", green(&format!("{state:<9}"))));
}

/// Prints what is about to take a while.
pub(crate) fn note(text: &str) {
    tell(&format!("  {}", dim(text)));
}

/// How often progress is told where it stays on the screen or in a file.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// Shows on stderr how far a long chore is: one line, written over on a terminal, and now
/// and then a line where there is none. An empty text takes the line away.
pub(crate) fn progress(text: &str) {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[2K{text}");
        return;
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if !text.is_empty() && last.is_none_or(|it| it.elapsed() >= TELL_EVERY) {
        *last = Some(Instant::now());
        eprintln!("{text}");
    }
}

/// What is printed should be seen before the next step, also through a pipe.
fn tell(line: &str) {
    if IS_STDOUT_KEPT.load(Ordering::Relaxed) {
        eprintln!("{line}");
    } else {
        println!("{line}");
        let _ = io::stdout().flush();
    }
}
