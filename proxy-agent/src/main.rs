//! The agent of the Service proxy; see `proxy-agent --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    proxy_agent::cli::main()
}
