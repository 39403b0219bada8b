//! The events that the data path has for the one process that listens, and the lease by which it
//! has them.
//!
//! The programs look at `TRACE_LISTENER`, which this process writes itself: the agent has no part in
//! it, and may be gone. The lease ends by itself where it is not renewed. A lock keeps a second
//! process off, which would take events away from the first one: an entry of the ring buffer is
//! read once.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use proxy_ebpf::layout::{Counter, MapSpec, TraceListener, maps};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::elements::Indexed as _;
use super::handles::{Array, MapSource as _, Open as _, PinnedFolder};
use super::trace_record::TraceRecord;
use super::{MapError, PinnedMaps, PinnedMapsError, now};

/// How long a lease is, in ticks of about a second: a listener may be late by some.
const LEASE: u32 = 4;
/// How often it is to be renewed.
pub const RENEWAL: Duration = Duration::from_secs(1);

/// The events.
pub struct TraceEvents {
    folder: PathBuf,
    lock: Flock<File>,
    events: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    lost_before: u64,
}

/// The lease of who listens; it ends when this is dropped.
pub struct TraceLease {
    listener: Array<TraceListener>,
    kinds: u32,
}

impl PinnedMaps {
    /// Begins to listen to events of these kinds ([`proxy_ebpf::layout::trace_kinds`]). What nobody
    /// has read before is forgotten.
    ///
    /// # Errors
    ///
    /// Somebody else listens, or the programs are older than events.
    pub fn listen(&self, kinds: u32) -> Result<(TraceEvents, TraceLease), PinnedMapsError> {
        let folder = self.folder();
        if !folder.join(maps::TRACE_EVENTS.name).exists() {
            return Err(PinnedMapsError::WithoutEvents);
        }
        let file = File::open(folder).map_err(|source| MapError::System {
            call: "opening the folder of pins",
            source,
        })?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, error)| match error {
                    Errno::EWOULDBLOCK => PinnedMapsError::Listening,
                    error => PinnedMapsError::Map(MapError::System {
                        call: "flock of the folder of pins",
                        source: error.into(),
                    }),
                },
            )?;
        let mut from = PinnedFolder(folder);
        let mut events = TraceEvents {
            folder: folder.to_owned(),
            lock,
            events: open(&mut from, maps::TRACE_EVENTS)?,
            counters: open(&mut from, maps::COUNTERS)?,
            lost_before: 0,
        };
        while events.events.next().is_some() {}
        events.lost_before = events.counted()?;
        let mut lease = TraceLease {
            listener: Array::open(&mut from, maps::TRACE_LISTENER)?,
            kinds,
        };
        lease.renew()?;
        Ok((events, lease))
    }
}

fn open<T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
    from: &mut PinnedFolder<'_>,
    MapSpec { name, .. }: MapSpec,
) -> Result<T, MapError> {
    let map = from.take(name)?;
    T::try_from(map).map_err(|source| MapError::Open { map: name, source })
}

impl TraceEvents {
    /// The events, to be awaited; in the context of tokio.
    #[expect(unsafe_code, reason = "a promise about a descriptor")]
    pub fn awaited(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the ring buffer's descriptor is open as long as it, and never replaced.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// The next event that nobody has read.
    pub fn next_event(&mut self) -> Option<TraceRecord> {
        loop {
            let entry = self.events.next()?;
            if let Some(record) = TraceRecord::read(&entry) {
                return Some(record);
            }
        }
    }

    /// How many events there was no room for since this process listens.
    pub fn lost(&self) -> Result<u64, MapError> {
        Ok(self.counted()?.saturating_sub(self.lost_before))
    }

    fn counted(&self) -> Result<u64, MapError> {
        let counted = self.counters.get(&(Counter::EventsLost as u32), 0);
        counted
            .map(|values| values.iter().sum())
            .map_err(|source| MapError::Write {
                map: maps::COUNTERS.name,
                source,
            })
    }

    /// Whether the programs still use these maps, as far as pins tell: an agent with other sizes
    /// makes new ones.
    pub fn are_current(&self) -> bool {
        let pinned = std::fs::metadata(&self.folder);
        let own = self.lock.metadata();
        matches!((pinned, own), (Ok(pinned), Ok(own)) if pinned.st_ino() == own.st_ino())
    }
}

/// For who waits for events.
impl AsRawFd for TraceEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

impl TraceLease {
    /// Renews the lease, which is to be done each [`RENEWAL`].
    pub fn renew(&mut self) -> Result<(), MapError> {
        let now = now().map_err(|source| MapError::System {
            call: "clock_gettime",
            source,
        })?;
        let until = now.wrapping_add(LEASE);
        let kinds = self.kinds;
        self.listener.set(0, TraceListener { until, kinds })
    }
}

impl Drop for TraceLease {
    fn drop(&mut self) {
        // Where this fails the lease ends by itself.
        let _ = self.listener.set(0, TraceListener::default());
    }
}
