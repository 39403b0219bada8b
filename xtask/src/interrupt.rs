//! What a chore does when it is interrupted in the midst of a lab.

use std::io;

use anyhow::{Context as _, Result};
use proxy_tests::lab::directory;

/// Ctrl-C ends the process at once, without running any destructor.
pub(crate) fn clean_up() -> Result<()> {
    ctrlc::set_handler(|| {
        // Keeps the rest of us from telling what it makes of the ruins.
        let _silence = io::stdout().lock();
        eprintln!("\ninterrupted, cleaning up");
        directory::abandon();
        std::process::exit(130);
    })
    .context("cannot handle Ctrl-C")
}
