//! The plan, from objects to maps: what every prefix of it leaves behind, and
//! where every history ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

#[path = "plan/churn.rs"]
mod churn;
#[path = "plan/consistent.rs"]
mod consistent;
#[path = "plan/cost.rs"]
mod cost;
#[path = "plan/drift.rs"]
mod drift;
#[path = "plan/failures.rs"]
mod failures;
#[path = "plan/full_maps.rs"]
mod full_maps;
#[path = "plan/heap.rs"]
mod heap;
#[path = "plan/histories.rs"]
mod histories;
#[path = "plan/names.rs"]
mod names;
#[path = "plan/objects.rs"]
mod objects;
#[path = "plan/resets.rs"]
mod resets;
#[path = "plan/unanswered.rs"]
mod unanswered;
#[path = "plan/view.rs"]
mod view;
