//! Buckets: the elements of `FLOWS_*`, in which `flow_table` finds and makes records.

use super::{Flow, WayState};
use crate::flow_table::Tags;

/// Records in a bucket. With the tags and the states of all of them in one cache line.
pub const WAYS: usize = 7;

/// Element of `FLOWS_*`: the records whose keys have one hash.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Bucket<A> {
    /// Which records there are.
    pub tags: Tags,
    /// How they are.
    pub states: [WayState; WAYS],
    /// What they say; not valid where there is no tag.
    pub flows: [Flow<A>; WAYS],
}
