//! The IP versions: all that differs between them, one file each.

mod v4;
mod v6;
