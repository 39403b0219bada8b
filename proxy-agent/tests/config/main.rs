//! Configuration files of the kinds of clusters that there are, and mistakes in them.

mod configz;
mod mistakes;
mod real_files;
mod reload;
