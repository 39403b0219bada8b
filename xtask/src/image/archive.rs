//! An OCI image archive: a tar file with the image's layout
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>).
//!
//! One layer, not compressed; no times, no names of users, files in order: the same
//! content gives the same digests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::arch::Arch;

/// The agent's name in the image's root.
pub(super) const PROGRAM: &str = "proxy-agent";

/// Who runs the program where nothing else is said: nobody. What needs more, as the
/// DaemonSet does, asks for it.
const USER: &str = "65532:65532";

const VERSION: &str = env!("CARGO_PKG_VERSION");

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes an image to `archive` that has the files of a root for each processor. Returns its
/// digest: that of the index where there are several.
pub(super) fn write(roots: &[(Arch, &Path)], archive: &Path) -> Result<String> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for (arch, root) in roots {
        manifests.push(blobs.add_image(*arch, root)?);
    }
    let mut image = match <[Value; 1]>::try_from(manifests) {
        Ok([only]) => only,
        Err(several) => blobs.add(INDEX, text(&index(&several))),
    };
    let digest = image["digest"].as_str().unwrap_or_default().to_owned();
    // The names by which skopeo and containerd know it.
    image["annotations"] = json!({
        "org.opencontainers.image.ref.name": VERSION,
        "io.containerd.image.name": format!("docker.io/library/{PROGRAM}:{VERSION}"),
    });
    let index = index(&[image]);

    let file = File::create(archive).with_context(|| format!("{}: write", archive.display()))?;
    let mut tar = Builder::new(file);
    append(
        &mut tar,
        "oci-layout",
        0o644,
        &text(&json!({"imageLayoutVersion": "1.0.0"})),
    )?;
    append(&mut tar, "index.json", 0o644, &text(&index))?;
    for (name, content) in &blobs.by_digest {
        append(&mut tar, &format!("blobs/sha256/{name}"), 0o644, content)?;
    }
    tar.into_inner()?.flush()?;
    Ok(digest)
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// The image's content, by digest without its prefix.
#[derive(Default)]
struct Blobs {
    by_digest: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Adds the image for a processor, and returns the descriptor of its manifest.
    fn add_image(&mut self, arch: Arch, root: &Path) -> Result<Value> {
        let layer = layer(root)?;
        let config = config(arch, &digest(&layer));
        let layer = self.add(LAYER, layer);
        let config = self.add(CONFIG, text(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
        });
        let mut manifest = self.add(MANIFEST, text(&manifest));
        manifest["platform"] = json!({"architecture": arch.name(), "os": "linux"});
        Ok(manifest)
    }

    /// Adds content, and returns its descriptor.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let hex = digest(&content);
        let size = content.len();
        let digest = format!("sha256:{hex}");
        self.by_digest.insert(hex, content);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }
}

/// The files of `root`, the program executable.
fn layer(root: &Path) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let mut tar = Builder::new(Vec::new());
    for name in names {
        let content = fs::read(root.join(&name))?;
        let mode = if name == PROGRAM { 0o755 } else { 0o644 };
        append(&mut tar, &name.to_string_lossy(), mode, &content)?;
    }
    Ok(tar.into_inner()?)
}

/// What to run of the image.
fn config(arch: Arch, layer: &str) -> Value {
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": arch.name(),
        "os": "linux",
        "config": {
            "User": USER,
            "Entrypoint": [format!("/{PROGRAM}")],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": PROGRAM,
                "org.opencontainers.image.description":
                    "The Kubernetes Service proxy on eBPF",
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

fn append<W: Write>(tar: &mut Builder<W>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(content.len().try_into()?);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, content)?;
    Ok(())
}

fn text(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

/// The SHA-256 of `content` in hexadecimal digits.
fn digest(content: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(content) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests;
