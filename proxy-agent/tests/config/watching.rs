//! A configuration file that is watched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxy_agent::config::kube_proxy::Parsed;
use proxy_agent::config::{ConfigFiles, FileError};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn text(node_name: &str) -> String {
    format!("{HEADER}hostnameOverride: {node_name}\n")
}

/// A file in a folder of its own, and what is reported of it.
struct Watched {
    folder: TempDir,
    reads: mpsc::Receiver<Result<Parsed, FileError>>,
}

impl Watched {
    /// Watches the file `config.conf`, which `make` makes in the folder.
    fn new(make: impl FnOnce(&Path)) -> Self {
        Self::all(&["config.conf"], make)
    }

    /// Watches several files.
    fn all(names: &[&str], make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let paths: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        let (files, _) = ConfigFiles::open(&paths).unwrap();
        let (sender, reads) = mpsc::channel(1);
        tokio::spawn(files.follow(sender));
        Self { folder, reads }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn next(&mut self) -> Result<Parsed, FileError> {
        let read = timeout(Duration::from_secs(10), self.reads.recv()).await;
        read.expect("news of the file").expect("it is watched")
    }

    /// The name of the node that the file now sets.
    async fn node_name(&mut self) -> String {
        let parsed = self.next().await.unwrap_or_else(|error| panic!("{error}"));
        parsed.settings.node_name.unwrap_or_default()
    }
}

fn plain(folder: &Path) {
    fs::write(folder.join("config.conf"), text("one")).unwrap();
}

#[tokio::test]
async fn a_file_is_read_again_however_it_is_written() {
    let mut it = Watched::new(plain);
    // In place.
    fs::write(it.path("config.conf"), text("two")).unwrap();
    assert_eq!(it.node_name().await, "two");
    // Renamed into its place, as editors do it.
    fs::write(it.path("draft"), text("three")).unwrap();
    fs::rename(it.path("draft"), it.path("config.conf")).unwrap();
    assert_eq!(it.node_name().await, "three");
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let version = |folder: &Path, number: u8, name: &str| {
        let data = folder.join(format!("..{number}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("config.conf"), text(name)).unwrap();
        symlink(format!("..{number}"), folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let mut it = Watched::new(|folder| {
        version(folder, 1, "one");
        symlink("..data/config.conf", folder.join("config.conf")).unwrap();
    });
    version(it.folder.path(), 2, "two");
    assert_eq!(it.node_name().await, "two");
}

#[tokio::test]
async fn a_file_that_is_broken_or_gone_is_reported_and_read_when_it_is_back() {
    let mut it = Watched::new(plain);
    fs::write(it.path("config.conf"), format!("{HEADER}mode: fast\n")).unwrap();
    let error = it.next().await.unwrap_err().to_string();
    assert!(error.contains("config.conf:3:7: mode:"), "{error}");
    fs::remove_file(it.path("config.conf")).unwrap();
    let error = it.next().await.unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    fs::write(it.path("config.conf"), text("one")).unwrap();
    assert_eq!(it.node_name().await, "one");
}

/// As an optional ConfigMap comes and goes.
#[tokio::test]
async fn of_several_files_those_that_are_there_count() {
    let files = ["kube-proxy/config.conf", "config.conf"];
    let mut it = Watched::all(&files, plain);
    fs::create_dir(it.path("kube-proxy")).unwrap();
    fs::write(it.path("draft"), text("theirs")).unwrap();
    fs::rename(it.path("draft"), it.path(files[0])).unwrap();
    assert_eq!(it.node_name().await, "theirs");
    fs::remove_file(it.path(files[0])).unwrap();
    assert_eq!(it.node_name().await, "one");
    fs::remove_file(it.path(files[1])).unwrap();
    let error = it.next().await.unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
}
