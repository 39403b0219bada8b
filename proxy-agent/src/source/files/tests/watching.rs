//! A folder that is watched, with real events.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::support::{put, service, short, slice};
use crate::model::object::Change;
use crate::source::files::{FilesError, watch};

/// Long, because nobody waits for it unless something is wrong; but shorter than
/// the time after which a folder is read without any event.
const PATIENCE: Duration = Duration::from_secs(8);

/// A folder with a watch on it.
struct Watched {
    changes: mpsc::Receiver<Vec<Change>>,
    task: JoinHandle<Result<(), FilesError>>,
}

impl Watched {
    fn new(directory: &Path) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let directory = directory.to_owned();
        let task = tokio::spawn(async move { watch(&directory, "here", sender).await });
        Self { changes, task }
    }

    async fn next(&mut self) -> Vec<String> {
        let batch = timeout(PATIENCE, self.changes.recv()).await;
        short(
            &batch
                .expect("no change in time")
                .expect("the watch goes on"),
        )
    }
}

#[tokio::test]
async fn the_first_batch_is_complete_and_says_so() {
    let directory = tempdir().unwrap();
    let all = service("a", "10.1.0.1") + &slice("s", "a", "10.0.0.1");
    put(directory.path(), "x.yaml", &all);
    let mut watched = Watched::new(directory.path());
    assert_eq!(
        watched.next().await,
        [
            "n/a=10.1.0.1",
            "n/s>a=10.0.0.1",
            "services",
            "slices",
            "nodes"
        ]
    );
}

#[tokio::test]
async fn an_empty_folder_is_complete_too() {
    let directory = tempdir().unwrap();
    let mut watched = Watched::new(directory.path());
    assert_eq!(watched.next().await, ["services", "slices", "nodes"]);
}

#[tokio::test]
async fn files_are_followed_however_they_are_written() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("x.yaml");
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    // Made elsewhere and renamed into place, also over another.
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    assert_eq!(watched.next().await, ["n/a=10.1.0.1"]);
    put(directory.path(), "x.yaml", &service("a", "10.1.0.2"));
    assert_eq!(watched.next().await, ["n/a=10.1.0.2"]);
    // Overwritten in place, twice as fast as can be.
    fs::write(&path, service("a", "10.1.0.3")).unwrap();
    assert_eq!(watched.next().await, ["n/a=10.1.0.3"]);
    fs::write(&path, service("a", "10.1.0.4")).unwrap();
    assert_eq!(watched.next().await, ["n/a=10.1.0.4"]);
    // Linked, renamed away, and removed.
    fs::hard_link(&path, directory.path().join("y.yaml")).unwrap();
    fs::rename(&path, directory.path().join("x.off")).unwrap();
    fs::write(directory.path().join("z.yaml"), service("b", "10.1.0.5")).unwrap();
    assert_eq!(watched.next().await, ["n/b=10.1.0.5"]);
    fs::remove_file(directory.path().join("y.yaml")).unwrap();
    assert_eq!(watched.next().await, ["-n/a"]);
}

#[tokio::test]
async fn a_file_is_not_read_half_written() {
    let directory = tempdir().unwrap();
    let both = service("a", "10.1.0.1") + &service("b", "10.1.0.2");
    put(directory.path(), "x.yaml", &both);
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    let mut file = fs::File::create(directory.path().join("x.yaml")).unwrap();
    file.write_all(service("a", "10.1.0.9").as_bytes()).unwrap();
    // Something else happens, and is seen, while the file stays open.
    put(directory.path(), "y.yaml", &service("c", "10.1.0.3"));
    assert_eq!(watched.next().await, ["n/c=10.1.0.3"]);
    file.write_all(service("b", "10.1.0.2").as_bytes()).unwrap();
    drop(file);
    assert_eq!(watched.next().await, ["n/a=10.1.0.9"]);
}

#[tokio::test]
async fn a_file_that_stays_open_is_read_after_a_while() {
    let directory = tempdir().unwrap();
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    let mut file = fs::File::create(directory.path().join("x.yaml")).unwrap();
    file.write_all(service("a", "10.1.0.1").as_bytes()).unwrap();
    assert_eq!(watched.next().await, ["n/a=10.1.0.1"]);
    drop(file);
}

#[tokio::test]
async fn what_happens_at_once_comes_in_one_batch() {
    let directory = tempdir().unwrap();
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    let names: Vec<_> = (0..20).map(|number| format!("s{number:02}")).collect();
    for name in &names {
        put(
            directory.path(),
            &format!("{name}.yaml"),
            &service(name, "10.1.0.1"),
        );
    }
    let expected: Vec<_> = names
        .iter()
        .map(|name| format!("n/{name}=10.1.0.1"))
        .collect();
    assert_eq!(watched.next().await, expected);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_until_it_is_mended() {
    let directory = tempdir().unwrap();
    put(directory.path(), "x.yaml", &service("a", "10.1.0.1"));
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    put(directory.path(), "x.yaml", "kind: [");
    put(directory.path(), "y.yaml", &service("b", "10.1.0.2"));
    assert_eq!(watched.next().await, ["n/b=10.1.0.2"]);
    put(directory.path(), "x.yaml", &service("a", "10.1.0.3"));
    assert_eq!(watched.next().await, ["n/a=10.1.0.3"]);
}

#[tokio::test]
async fn a_folder_that_went_and_came_back_is_followed() {
    let outer = tempdir().unwrap();
    let (path, aside) = (outer.path().join("x"), outer.path().join("y"));
    fs::create_dir(&path).unwrap();
    put(&path, "a.yaml", &service("a", "10.1.0.1"));
    put(&path, "b.yaml", &service("b", "10.1.0.2"));
    let mut watched = Watched::new(&path);
    watched.next().await;
    fs::rename(&path, &aside).unwrap();
    fs::remove_file(aside.join("b.yaml")).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(watched.next().await, ["-n/b"]);
    // A new one in its place is followed as well.
    fs::create_dir(&aside).unwrap();
    put(&aside, "c.yaml", &service("c", "10.1.0.3"));
    fs::rename(&path, outer.path().join("z")).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(watched.next().await, ["-n/a", "n/c=10.1.0.3"]);
    put(&path, "d.yaml", &service("d", "10.1.0.4"));
    assert_eq!(watched.next().await, ["n/d=10.1.0.4"]);
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let directory = tempdir().unwrap();
    let path = directory.path();
    let version = |name: &str, address: &str| {
        fs::create_dir(path.join(name)).unwrap();
        fs::write(path.join(name).join("x.yaml"), service("a", address)).unwrap();
        symlink(name, path.join("..data_tmp")).unwrap();
        fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    };
    version("..1", "10.1.0.1");
    symlink("..data/x.yaml", path.join("x.yaml")).unwrap();
    let mut watched = Watched::new(path);
    watched.next().await;
    version("..2", "10.1.0.2");
    assert_eq!(watched.next().await, ["n/a=10.1.0.2"]);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_clear_error() {
    let directory = tempdir().unwrap();
    let missing = directory.path().join("missing");
    let (sender, _receiver) = mpsc::channel(1);
    let error = watch(&missing, "here", sender).await.unwrap_err();
    let expected = format!("cannot read the folder {}: No such file", missing.display());
    assert!(error.to_string().starts_with(&expected), "{error}");

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let (sender, _receiver) = mpsc::channel(1);
    let error = watch(&file, "here", sender).await.unwrap_err();
    assert!(error.to_string().contains("Not a directory"), "{error}");
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens() {
    let directory = tempdir().unwrap();
    let mut watched = Watched::new(directory.path());
    watched.next().await;
    drop(watched.changes);
    let end = timeout(PATIENCE, watched.task).await;
    end.expect("it ends").unwrap().unwrap();
}
