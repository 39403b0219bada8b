//! What all requests and the test share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Options;
use super::control::Control;
use super::query::Seen;
use super::store::Store;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Mutex<Options>,
    pub(super) store: Mutex<Store>,
    pub(super) control: tokio::sync::watch::Sender<Control>,
    pub(super) log: Mutex<Log>,
    pub(super) was_logged: Condvar,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) connections: usize,
    pub(super) requests: Vec<Seen>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let store = Store::remembering(options.history);
        Self {
            options: Mutex::new(options),
            store: Mutex::new(store),
            control: tokio::sync::watch::Sender::default(),
            log: Mutex::default(),
            was_logged: Condvar::new(),
        }
    }

    /// Wakes who waits for objects: watches, and the test.
    pub(super) fn tell_of_change(&self) {
        self.control.send_modify(|_| {});
        self.note(|_| {});
    }

    /// Notes what came, and wakes who waits for it.
    pub(super) fn note(&self, note: impl FnOnce(&mut Log)) {
        note(&mut lock(&self.log));
        self.was_logged.notify_all();
    }
}

/// A lock whose holder panicked is still good here: the test has failed anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits as long as a test asked for. No time is no wait at all, where the timer's
/// would be a millisecond.
pub(super) async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
