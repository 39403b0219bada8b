//! A process that goes on asking a mirror, whenever it is told to.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result};
use proxy_tests::lab::Namespace;

use super::python_command;

/// A process of Python's in a namespace. Its script asks once for each line that it reads,
/// and prints who answers or what goes wrong, and the number of its socket.
pub(crate) struct Asker {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    pub(crate) fn start(
        from: &Namespace,
        script: &str,
        to: SocketAddr,
        more: &[&str],
    ) -> Result<Self> {
        let mut process = python_command(from, script, to, more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = process.stdin.take().context("no stdin")?;
        let answers = process.stdout.take().context("no stdout")?;
        Ok(Self {
            process,
            questions,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Who answers a question, or what goes wrong, and the number of the socket.
    pub(crate) fn ask(&mut self) -> Result<(String, usize)> {
        self.questions.write_all(b"\n")?;
        let line = self.answers.next().context("the process ended")??;
        let (answer, sockets) = line.split_once(' ').context("an answer")?;
        Ok((answer.to_owned(), sockets.parse()?))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
