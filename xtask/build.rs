//! Tells xtask the target that it was built for.

fn main() {
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    println!("cargo:rustc-env=HOST_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
}
