//! A mounted ConfigMap, as the kubelet makes one: the file is a link into a folder,
//! to which a link leads that is exchanged for another as a whole.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What the kubelet calls the link that it exchanges
/// (`pkg/volume/util/atomic_writer.go`).
const DATA: &str = "..data";

/// A mounted ConfigMap with one file, `config.conf`.
#[derive(Debug)]
pub struct ConfigMap {
    folder: PathBuf,
}

impl ConfigMap {
    /// Mounts one at `<directory>/config`.
    pub fn mount(directory: &Path, content: &str) -> Result<Self> {
        let folder = directory.join("config");
        fs::create_dir(&folder).with_context(|| format!("{}: mkdir", folder.display()))?;
        let map = Self { folder };
        map.set(content)?;
        symlink(Path::new(DATA).join("config.conf"), map.file())?;
        Ok(map)
    }

    /// Where its file is.
    pub fn file(&self) -> PathBuf {
        self.folder.join("config.conf")
    }

    /// Gives the file another content.
    pub fn set(&self, content: &str) -> Result<()> {
        let before = fs::read_link(self.folder.join(DATA)).ok();
        let number = before.as_ref().map_or(1, |name| {
            let text = name.to_string_lossy();
            text.trim_start_matches('.').parse().unwrap_or(0) + 1
        });
        let now = format!("..{number}");
        let version = self.folder.join(&now);
        fs::create_dir(&version).with_context(|| format!("{}: mkdir", version.display()))?;
        fs::write(version.join("config.conf"), content)?;
        let draft = self.folder.join("..data_tmp");
        symlink(&now, &draft)?;
        fs::rename(&draft, self.folder.join(DATA))?;
        if let Some(before) = before {
            fs::remove_dir_all(self.folder.join(before))?;
        }
        Ok(())
    }
}
