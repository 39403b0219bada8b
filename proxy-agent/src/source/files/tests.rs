//! Tests of the folder source, by what they are about.

mod documents;
mod folders;
mod mistakes;
mod support;
mod watching;
