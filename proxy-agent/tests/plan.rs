//! The plan, from objects to maps: what every prefix of it leaves behind, and
//! where every history ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[path = "plan/full_maps.rs"]
mod full_maps;
#[path = "plan/histories.rs"]
mod histories;
#[path = "plan/view.rs"]
mod view;
