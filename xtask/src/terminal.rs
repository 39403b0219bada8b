//! Colours, where a person is looking, and lines that tell of progress.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    sync::OnceLock,
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

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n{}", bold(text));
    flush();
}

/// Prints a line of a list, what its state is in front.
pub(crate) fn item(state: &str, text: &str) {
    println!("  {} {text}", green(&format!("{state:<9}")));
    flush();
}

/// Prints what is about to take a while.
pub(crate) fn note(text: &str) {
    println!("  {}", dim(text));
    flush();
}

/// What is printed should be seen before the next step, also through a pipe.
fn flush() {
    let _ = io::stdout().flush();
}
