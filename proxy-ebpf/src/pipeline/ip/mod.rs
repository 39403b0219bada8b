//! The IP versions: everything that differs between them, one file each.

mod v4;
mod v6;
