//! What the tests of the model share.

pub(crate) mod case;
pub(crate) mod generated;
