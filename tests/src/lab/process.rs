//! A child process as a guard, with its output as events.
//!
//! Tests wait for a line ("started", "programmed") instead of sleeping and
//! hoping; when it does not come, the error shows what came instead.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::CommandExt as _,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How many times as long as usual everything may take, where a machine is emulated: a number.
const SLOWNESS: &str = "LAB_SLOWNESS";

fn slowness() -> u32 {
    let told = env::var(SLOWNESS).ok().and_then(|it| it.parse().ok());
    told.unwrap_or(1)
}

/// How many of the last lines an error shows.
const SHOWN: usize = 15;

/// A running child; killed and reaped on drop, and by the kernel if we die first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// Readers that have seen the end of their stream.
    ended: usize,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock held")
    }
}

impl Process {
    /// Starts a command under a name for messages, and reads its stdout and stderr.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child =
            spawn_on_lasting_thread(command).with_context(|| format!("{name}: start"))?;
        let output = Arc::<Output>::default();
        read(&output, child.stdout.take().context("no stdout")?);
        read(&output, child.stderr.take().context("no stderr")?);
        Ok(Self {
            name: name.into(),
            child,
            output,
        })
    }

    /// Its name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far, of stdout and stderr as they came.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// This point in the output, for [`Self::wait_for_line_after`].
    pub fn mark(&self) -> usize {
        self.output.lock().lines.len()
    }

    /// Waits for a line, also one that has already come, and returns it.
    pub fn wait_for_line(
        &self,
        timeout: Duration,
        wanted: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        self.wait_for_line_after(0, timeout, wanted)
    }

    /// Waits for a line that comes after a mark, and returns it.
    pub fn wait_for_line_after(
        &self,
        mark: usize,
        timeout: Duration,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Result<String> {
        let timeout = timeout * slowness();
        let deadline = Instant::now() + timeout;
        let mut next = mark;
        let mut state = self.output.lock();
        loop {
            while let Some(line) = state.lines.get(next) {
                if wanted(line) {
                    return Ok(line.clone());
                }
                next += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended == 2 {
                bail!("{} ended, its last lines:\n{}", self.name, tail(&state));
            }
            if left.is_zero() {
                bail!(
                    "{}: no such line in {timeout:?}, the last ones:\n{}",
                    self.name,
                    tail(&state)
                );
            }
            let woken = self.output.changed.wait_timeout(state, left);
            state = woken.expect("nobody panics with the lock held").0;
        }
    }

    /// Asks the process to end with SIGTERM, and waits for it.
    pub fn terminate(mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait(timeout)
    }

    /// Waits until the process has closed its output and ended.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let state = self.output.lock();
        let (state, waited) = self
            .output
            .changed
            .wait_timeout_while(state, timeout * slowness(), |state| state.ended < 2)
            .expect("nobody panics with the lock held");
        if waited.timed_out() {
            bail!(
                "{}: still runs, its last lines:\n{}",
                self.name,
                tail(&state)
            );
        }
        drop(state);
        Ok(self.child.wait()?)
    }

    /// Sends a signal.
    #[expect(unsafe_code, reason = "std sends no signal but SIGKILL")]
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: takes two integers; the pid is our child's and not yet reaped.
        let result = unsafe { libc::kill(self.id().cast_signed(), signal) };
        if result != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("{}: kill", self.name));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(state: &State) -> String {
    let from = state.lines.len().saturating_sub(SHOWN);
    state.lines[from..].join("\n")
}

fn read(output: &Arc<Output>, stream: impl Read + Send + 'static) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            output.lock().lines.push(line);
            output.changed.notify_all();
        }
        output.lock().ended += 1;
        output.changed.notify_all();
    });
}

/// Has the kernel kill the child when we die, however we die.
#[expect(unsafe_code, reason = "std has no PR_SET_PDEATHSIG")]
fn die_with_parent(command: &mut Command) {
    let parent = process::id().cast_signed();
    let in_child = move || {
        // SAFETY: both calls are async-signal-safe and take integers.
        let orphaned = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() != parent
        };
        if orphaned {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec, `in_child` neither allocates nor locks.
    unsafe { command.pre_exec(in_child) };
}

/// Spawns on a thread that lives as long as this process.
///
/// `PR_SET_PDEATHSIG` is about the parent thread, not the process: a child that a
/// short-lived thread started would die with that thread.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in requests {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    let asked = spawner.send((command, answer)).is_ok();
    match child.recv() {
        Ok(child) if asked => child,
        _ => Err(io::Error::other("the spawning thread is gone")),
    }
}
