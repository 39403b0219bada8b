//! Imports between the folders of the agent go one way.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each folder imports, also for its tests.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_folders_import_each_other_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut imports = Imports::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let folder = path.file_stem().unwrap().to_str().unwrap().to_owned();
        read(&path, imports.entry(folder).or_default());
    }
    assert!(imports["runtime"].contains("agent"), "imports are found");
    for folder in imports.keys() {
        let reached = reached_from(folder, &imports);
        assert!(!reached.contains(folder), "{folder}: {reached:?}");
    }
}

#[test]
fn settings_know_nothing_of_bpf() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut imports = BTreeSet::new();
    read(&source, &mut imports);
    for folder in ["attach", "maps"] {
        assert!(!imports.contains(folder), "{folder}");
    }
}

/// Adds the names behind `crate::` in a file, or in all below a folder.
fn read(path: &Path, imports: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read(&entry.unwrap().path(), imports);
        }
        return;
    }
    let text = fs::read_to_string(path).unwrap();
    for rest in text.split("crate::").skip(1) {
        let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric());
        imports.insert(rest[..end.unwrap_or(rest.len())].to_owned());
    }
}

/// All folders that one imports, at first or second hand.
fn reached_from(folder: &str, imports: &Imports) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut to_visit = vec![folder];
    while let Some(at) = to_visit.pop() {
        for next in imports.get(at).into_iter().flatten() {
            if next != at && reached.insert(next.clone()) {
                to_visit.push(next);
            }
        }
    }
    reached
}
