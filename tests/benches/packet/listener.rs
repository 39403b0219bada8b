//! Somebody who listens to what the programs tell.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, RingBuf};
use proxy_agent::maps::now;
use proxy_ebpf::layout::{TraceListener, maps, trace_kinds};

/// Ticks of the lease: longer than a case takes.
const LEASE: u32 = 60;

/// Listens to everything from now on, with all of the ring buffer free.
pub(crate) fn listen(programs: &mut Ebpf) -> Result<()> {
    let listener = TraceListener {
        until: now()?.wrapping_add(LEASE),
        kinds: trace_kinds::NEW_FLOWS | trace_kinds::DROPS,
    };
    let map = programs.map_mut(maps::TRACE_LISTENER.name);
    Array::try_from(map.context("the map of the listener")?)?.set(0, listener, 0)?;
    let map = programs.map_mut(maps::TRACE_EVENTS.name);
    let mut events = RingBuf::try_from(map.context("the map of events")?)?;
    while events.next().is_some() {}
    Ok(())
}
