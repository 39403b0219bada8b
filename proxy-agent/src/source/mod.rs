//! Where the objects come from.
//!
//! A source turns what it watches into batches of [`Change`]s and sends them
//! through a channel. Nothing behind the channel knows which source it is:
//! - the first batches end with the news that the first lists are complete;
//! - an object is reported once when it is there and again when it changed;
//! - an object that goes, or that the selectors of [`select`] no longer take,
//!   is reported as gone, also when that happened while nobody watched.
//!
//! [`Change`]: crate::model::object::Change

pub mod convert;
pub mod files;
pub mod kube;
pub mod select;

#[cfg(test)]
mod tests;
