//! The layers of the pipeline: each knows only those below it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top; a folder, or a file of the pipeline's own folder.
const LAYERS: [&str; 10] = [
    "packet", "ip", "verdict", "tables", "context", "trace", "flow", "service", "answer", "hooks",
];

/// Where the path of an import begins.
const ROOT: &str = "crate::pipeline::";

fn rank(layer: &str) -> usize {
    let found = LAYERS.iter().position(|it| *it == layer);
    found.unwrap_or_else(|| panic!("{layer} is no layer: add it to the list, and to the docs"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn imports_lead_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pipeline");
    let mut all = Vec::new();
    files(&root, &mut all);
    let mut upwards = Vec::new();
    for file in all {
        let inside = file.strip_prefix(&root).unwrap();
        let layer = inside.iter().next().unwrap().to_str().unwrap();
        let layer = layer.trim_end_matches(".rs");
        if layer == "mod" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for import in text.split(ROOT).skip(1) {
            let name = import.split(|it: char| !it.is_alphanumeric() && it != '_');
            let target = name.into_iter().next().unwrap_or_default();
            if rank(target) > rank(layer) {
                upwards.push(format!("{}: {ROOT}{target}", inside.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}
