//! Files that cannot be used.

use std::fs;

use super::support::{empty, put, service};
use crate::source::files::file::MAX_FILE_BYTES;

#[test]
fn a_broken_file_keeps_its_last_good_objects_and_is_reported_once_for_each_content() {
    let (directory, mut looker) = empty();
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    put(directory.path(), "y.yaml", &service("b", "10.1.0.2"));
    looker.look();

    put(directory.path(), "x.yaml", "kind: [");
    put(directory.path(), "y.yaml", &service("b", "10.1.0.3"));
    assert_eq!(looker.look(), ["n/b=10.1.0.3"]);
    assert_eq!(
        looker.notices,
        ["x.yaml: line 1, column 7: unclosed bracket '['"]
    );

    put(directory.path(), "x.yaml", "kind: [");
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(looker.notices, [""; 0]);

    put(directory.path(), "x.yaml", "\nkind: [");
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(
        looker.notices,
        ["x.yaml: line 2, column 7: unclosed bracket '['"]
    );

    put(directory.path(), "x.yaml", &service("a", "10.1.0.4"));
    assert_eq!(looker.look(), ["n/a=10.1.0.4"]);
    assert_eq!(looker.notices, ["x.yaml fixed"]);
    put(directory.path(), "x.yaml", &service("a", "10.1.0.5"));
    looker.look();
    assert_eq!(looker.notices, [""; 0]);
}

#[test]
fn a_broken_file_that_goes_takes_its_objects_along() {
    let (directory, mut looker) = empty();
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    looker.look();
    put(directory.path(), "x.yaml", "kind: [");
    looker.look();
    fs::remove_file(directory.path().join("x.yaml")).unwrap();
    assert_eq!(looker.look(), ["-n/a"]);
}

#[test]
fn a_file_that_is_no_text_or_too_big_is_refused_with_the_reason() {
    let (directory, mut looker) = empty();
    fs::write(directory.path().join("x.yaml"), b"a: b\n# \xff\n").unwrap();
    let big = fs::File::create(directory.path().join("y.yaml")).unwrap();
    big.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(
        looker.notices,
        [
            "x.yaml: line 2, column 3: this is not UTF-8",
            "y.yaml: has more than the 16 MiB that a file may have; split it"
        ]
    );
    looker.look();
    assert_eq!(looker.notices, [""; 0]);
}
