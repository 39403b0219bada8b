//! What one look at a folder finds.

use std::fs;
use std::os::unix::fs::symlink;

use super::support::{Looker, empty, node, put, service, slice};
use crate::source::files::events::Hints;

#[test]
fn the_first_look_finds_everything_with_the_node_first() {
    let (directory, mut looker) = empty();
    let all = slice("s1", "a", "10.0.0.1")
        + &service("a", "10.1.0.1")
        + &node("there", "10.2.0.2")
        + &node("here", "10.2.0.1");
    put(directory.path(), "all.yaml", &all);
    put(directory.path(), "more.yml", &service("b", "10.1.0.2"));
    assert_eq!(
        looker.look(),
        [
            "node=10.2.0.1",
            "n/a=10.1.0.1",
            "n/b=10.1.0.2",
            "n/s1>a=10.0.0.1"
        ]
    );
    assert_eq!(looker.look(), [""; 0]);
}

#[test]
fn later_looks_find_differences_only() {
    let (directory, mut looker) = empty();
    let two = service("a", "10.1.0.1") + &service("b", "10.1.0.2");
    put(directory.path(), "x.yaml", &two);
    looker.look();
    let other = service("b", "10.1.0.9") + &service("c", "10.1.0.3");
    put(directory.path(), "x.yaml", &other);
    assert_eq!(looker.look(), ["-n/a", "n/b=10.1.0.9", "n/c=10.1.0.3"]);
    fs::remove_file(directory.path().join("x.yaml")).unwrap();
    assert_eq!(looker.look(), ["-n/b", "-n/c"]);
}

#[test]
fn an_object_that_moves_to_another_file_does_not_change() {
    let (directory, mut looker) = empty();
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    looker.look();
    fs::remove_file(directory.path().join("x.yaml")).unwrap();
    put(directory.path(), "y.yaml", &service("a", "10.1.0.1"));
    assert_eq!(looker.look(), [""; 0]);
}

#[test]
fn other_files_do_not_count() {
    let (directory, mut looker) = empty();
    let names = [
        ".x.yaml",
        ".x.yaml.swp",
        "x.yaml~",
        "x.yaml.tmp",
        "#x.yaml#",
        "x.txt",
        "yaml",
        "x.YAML2",
        "4913",
    ];
    for name in names {
        fs::write(directory.path().join(name), service("a", "10.1.0.1")).unwrap();
    }
    fs::create_dir(directory.path().join("folder.yaml")).unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    put(
        &directory.path().join("sub"),
        "x.yaml",
        &service("a", "10.1.0.1"),
    );
    symlink("nowhere", directory.path().join("dangling.yaml")).unwrap();
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(looker.notices, [""; 0]);
}

#[test]
fn links_count_as_what_they_lead_to() {
    let (directory, mut looker) = empty();
    // As in a mounted ConfigMap: the files lead through a link that is swapped.
    let path = directory.path();
    for (version, address) in [("..1", "10.1.0.1"), ("..2", "10.1.0.2")] {
        fs::create_dir(path.join(version)).unwrap();
        put(&path.join(version), "x.yaml", &service("a", address));
    }
    symlink("..1", path.join("..data")).unwrap();
    symlink("..data/x.yaml", path.join("x.yaml")).unwrap();
    assert_eq!(looker.look(), ["n/a=10.1.0.1"]);
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    assert_eq!(looker.look(), ["n/a=10.1.0.2"]);
}

#[test]
fn of_two_files_with_one_object_the_first_by_name_counts() {
    let (directory, mut looker) = empty();
    put(directory.path(), "b.yaml", &service("a", "10.1.0.2"));
    assert_eq!(looker.look(), ["n/a=10.1.0.2"]);
    put(directory.path(), "c.yaml", &service("a", "10.1.0.3"));
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(looker.notices, ["the Service n/a: b.yaml, not c.yaml"]);
    put(directory.path(), "a.yaml", &service("a", "10.1.0.1"));
    assert_eq!(looker.look(), ["n/a=10.1.0.1"]);
    assert_eq!(looker.notices, ["the Service n/a: a.yaml, not b.yaml"]);
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    assert_eq!(looker.look(), [""; 0]);
    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    assert_eq!(looker.look(), ["n/a=10.1.0.3"]);
}

#[test]
fn of_two_objects_in_one_file_the_first_counts() {
    let (directory, mut looker) = empty();
    let twice = service("a", "10.1.0.1") + &service("a", "10.1.0.2");
    put(directory.path(), "x.yaml", &twice);
    assert_eq!(looker.look(), ["n/a=10.1.0.1"]);
    assert_eq!(looker.notices, ["the Service n/a: x.yaml, not x.yaml"]);
}

#[test]
fn an_object_that_is_not_selected_any_more_is_gone() {
    let (directory, mut looker) = empty();
    let text = service("a", "10.1.0.1") + &service("b", "10.1.0.2") + &slice("s", "a", "10.0.0.1");
    put(directory.path(), "x.yaml", &text);
    looker.look();
    let labelled = text
        .replace(
            "n, name: a}",
            "n, name: a, labels: {service.kubernetes.io/service-proxy-name: ''}}",
        )
        .replace("clusterIP: 10.1.0.2", "clusterIP: None")
        .replace(
            "service-name: a}",
            "service-name: a, service.kubernetes.io/headless: ''}",
        );
    put(directory.path(), "x.yaml", &labelled);
    assert_eq!(looker.look(), ["-n/a", "-n/b", "-slice n/s"]);
    put(directory.path(), "x.yaml", &text);
    assert_eq!(
        looker.look(),
        ["n/a=10.1.0.1", "n/b=10.1.0.2", "n/s>a=10.0.0.1"]
    );
}

#[test]
fn an_object_that_is_not_selected_hides_the_same_in_later_files() {
    let (directory, mut looker) = empty();
    put(directory.path(), "b.yaml", &service("a", "10.1.0.1"));
    looker.look();
    put(directory.path(), "a.yaml", &service("a", "None"));
    assert_eq!(looker.look(), ["-n/a"]);
}

#[test]
fn objects_without_a_namespace_are_in_the_default_one() {
    let (directory, mut looker) = empty();
    let text = service("a", "10.1.0.1") + &slice("s", "a", "10.0.0.1");
    put(
        directory.path(),
        "x.yaml",
        &text.replace("namespace: n, ", ""),
    );
    assert_eq!(
        looker.look(),
        ["default/a=10.1.0.1", "default/s>a=10.0.0.1"]
    );
}

#[test]
fn service_cidrs_come_before_services_and_go() {
    let (directory, mut looker) = empty();
    let cidr = "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\n\
                metadata: {name: kubernetes}\nspec: {cidrs: [10.1.0.0/16]}\n";
    let all = service("a", "10.1.0.1") + cidr;
    put(directory.path(), "x.yaml", &all);
    assert_eq!(
        looker.look(),
        ["cidr kubernetes=10.1.0.0/16", "n/a=10.1.0.1"]
    );
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    assert_eq!(looker.look(), ["-cidr kubernetes"]);
}

#[test]
fn kinds_without_use_are_passed_over_with_a_word() {
    let (directory, mut looker) = empty();
    let pod = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\n";
    put(
        directory.path(),
        "x.yaml",
        &format!("{pod}{pod}{}", service("a", "10.1.0.1")),
    );
    assert_eq!(looker.look(), ["n/a=10.1.0.1"]);
    assert_eq!(looker.notices, ["x.yaml ignored ConfigMap"]);
}

#[test]
fn a_folder_that_is_gone_leaves_the_objects_and_is_followed_when_it_returns() {
    let (directory, _) = empty();
    let (path, aside) = (directory.path().join("x"), directory.path().join("y"));
    fs::create_dir(&path).unwrap();
    let mut looker = Looker::new(&path);
    put(&path, "a.yaml", &service("a", "10.1.0.1"));
    put(&path, "b.yaml", &service("b", "10.1.0.2"));
    looker.look();
    fs::rename(&path, &aside).unwrap();
    assert_eq!(looker.look(), [""; 0]);
    assert_eq!(looker.notices, ["gone"]);
    looker.look();
    assert_eq!(looker.notices, [""; 0]);
    fs::remove_file(aside.join("b.yaml")).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(looker.look(), ["-n/b"]);
    assert_eq!(looker.notices, ["back"]);
}

#[test]
fn only_files_that_look_different_are_read_unless_they_were_written() {
    let (directory, mut looker) = empty();
    let path = directory.path().join("x.yaml");
    fs::write(&path, service("a", "10.1.0.1")).unwrap();
    looker.look();
    // Same size, same time.
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, service("a", "10.1.0.2")).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(looker.look(), [""; 0]);
    let hints = Hints {
        modified: ["x.yaml".into()].into(),
        ..Hints::default()
    };
    assert_eq!(looker.look_with(&hints), ["n/a=10.1.0.2"]);
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let (directory, mut looker) = empty();
    let path = directory.path().join("x.yaml");
    fs::write(&path, service("a", "10.1.0.1")).unwrap();
    looker.look();
    fs::write(&path, "").unwrap();
    let hints = Hints {
        open_for_write: ["x.yaml".into()].into(),
        ..Hints::default()
    };
    assert_eq!(looker.look_with(&hints), [""; 0]);
    assert_eq!(looker.look(), ["-n/a"]);
}
