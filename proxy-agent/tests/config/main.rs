//! Configuration files of the kinds of clusters that there are, and mistakes in them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod configz;
mod mistakes;
mod real_files;
mod reload;
mod watching;
