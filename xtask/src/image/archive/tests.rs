//! An image is unpacked as a container runtime does it, and run.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::paths;

/// An image of a program, made twice.
fn write_twice(folder: &Path, program: &Path) -> [Vec<u8>; 2] {
    ["one", "other"].map(|name| {
        let root = folder.join(name);
        fs::create_dir(&root).unwrap();
        fs::copy(program, root.join(PROGRAM)).unwrap();
        fs::write(root.join("LICENSE"), "text").unwrap();
        let archive = folder.join(format!("{name}.tar"));
        write(&[(Arch::HOST, &root)], &archive).unwrap();
        fs::read(archive).unwrap()
    })
}

/// A file of an unpacked layout, by its descriptor.
fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let hex = descriptor["digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap();
    let content = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    assert_eq!(digest(&content), hex);
    assert_eq!(descriptor["size"], content.len());
    content
}

fn json_blob(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&blob(layout, descriptor)).unwrap()
}

#[test]
fn an_image_holds_what_its_digests_say_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    // The agent where the tests are called as the README says; else any program.
    let agent = std::env::var_os("PROXY_AGENT_BIN");
    let program = agent.as_ref().map_or("/bin/true".as_ref(), Path::new);
    let [one, other] = write_twice(folder.path(), program);
    assert!(one == other, "two images of the same files differ");

    let layout = folder.path().join("layout");
    tar::Archive::new(&one[..]).unpack(&layout).unwrap();
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(layout.join(name)).unwrap()).unwrap()
    };
    assert_eq!(read("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let index = read("index.json");
    let manifest = json_blob(&layout, &index["manifests"][0]);
    let config = json_blob(&layout, &manifest["config"]);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    let layer = blob(&layout, &manifest["layers"][0]);
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        manifest["layers"][0]["digest"]
    );

    let root = folder.path().join("root");
    tar::Archive::new(&layer[..]).unpack(&root).unwrap();
    let entry = config["config"]["Entrypoint"][0].as_str().unwrap();
    let entry = root.join(entry.strip_prefix('/').unwrap());
    assert_eq!(
        entry.metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    let output = Command::new(entry).arg("--version").output().unwrap();
    assert!(output.status.success());
    if agent.is_some() {
        let version = String::from_utf8(output.stdout).unwrap();
        assert_eq!(version, format!("proxy-agent {VERSION}\n"));
    }
}

#[test]
fn an_image_for_several_processors_has_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join(PROGRAM), "a program").unwrap();
    let archive = folder.path().join("image.tar");
    let roots = [(Arch::Amd64, &*root), (Arch::Arm64, &*root)];
    let digest = write(&roots, &archive).unwrap();

    let layout = folder.path().join("layout");
    let file = File::open(&archive).unwrap();
    tar::Archive::new(file).unpack(&layout).unwrap();
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let [image] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("one image is expected: {index}");
    };
    assert_eq!(image["mediaType"], INDEX);
    assert_eq!(image["digest"], digest);
    let several = json_blob(&layout, image);
    for (at, name) in ["amd64", "arm64"].iter().enumerate() {
        let descriptor = &several["manifests"][at];
        assert_eq!(descriptor["platform"]["architecture"], *name);
        let manifest = json_blob(&layout, descriptor);
        let config = json_blob(&layout, &manifest["config"]);
        assert_eq!(config["architecture"], *name);
    }
}

#[test]
fn the_containerfile_says_the_same() {
    let file = fs::read_to_string(paths::root().join("Containerfile")).unwrap();
    let config = config(Arch::HOST, "");
    let entry = config["config"]["Entrypoint"].to_string();
    for line in [format!("ENTRYPOINT {entry}"), format!("USER {USER}")] {
        assert!(file.lines().any(|found| found == line), "{line}");
    }
    for (label, value) in config["config"]["Labels"].as_object().unwrap() {
        let line = format!("LABEL {label}={value}");
        assert!(file.lines().any(|found| found == line), "{line}");
    }
}
