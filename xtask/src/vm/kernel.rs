//! Debian's kernels for virtual machines ("cloud").

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::arch::Arch;
use crate::debian::{Apt, Archive};
use crate::{command, paths, terminal};

/// A kernel to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Of Debian 11: it stands in for 5.15, which no suite has
    #[value(name = "5.10")]
    V5_10,
    /// Of Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Of Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// The newest that is backported to Debian 13
    Newest,
}

/// An unpacked kernel.
pub(crate) struct Files {
    /// What to boot.
    pub(super) image: PathBuf,
    /// What is to be `/lib/modules`.
    pub(super) modules: PathBuf,
    /// As `uname -r` says it.
    pub(super) release: String,
}

impl Kernel {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The name of folders for it and a processor.
    pub(super) fn folder(self, arch: Arch) -> String {
        format!("{}-{}", self.name(), arch.name())
    }

    fn suites(self) -> &'static [(Archive, &'static str)] {
        match self {
            Self::V5_10 => &[(Archive::Security, "bullseye-security")],
            Self::V6_1 => &[
                (Archive::Main, "bookworm"),
                (Archive::Security, "bookworm-security"),
            ],
            Self::V6_12 => &[(Archive::Main, "trixie")],
            Self::Newest => &[(Archive::Main, "trixie-backports")],
        }
    }

    /// Fetches and unpacks it into the user's cache, unless it is there.
    pub(super) fn fetch(self, arch: Arch) -> Result<Files> {
        let meta = format!("linux-image-cloud-{}", arch.name());
        let name = self.folder(arch);
        let cache = paths::cache()?.join("kernels");
        let latest = cache.join(&name);
        if let Some(files) = kept(&latest) {
            terminal::item("ok", &format!("Linux {}", files.release));
            return Ok(files);
        }
        terminal::note(&format!("Linux {} from Debian's packages ...", self.name()));
        let apt = Apt::open(&cache.join(format!("apt-{name}")), arch, self.suites())?;
        let image = find(&apt.dependencies(&meta)?, "linux-image-")
            .with_context(|| format!("{meta} leads to no kernel"))?;
        // From 6.19 on the image is a package without content that depends on two others.
        let dependencies = apt.dependencies(&image)?;
        let parts = [
            find(&dependencies, "linux-binary-"),
            find(&dependencies, "linux-modules-"),
        ];
        let packages = match parts {
            [Some(binary), Some(modules)] => vec![binary, modules],
            _ => vec![image],
        };
        let new = latest.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        apt.unpack(&packages, &new)?;
        // The folder itself is as old as the package.
        fs::write(new.join(FETCHED), packages.join("\n"))?;
        let files = Files::find(&new)?;
        let mut depmod = command::outside("depmod");
        let base = files.modules.parent().and_then(Path::parent);
        depmod
            .arg("-b")
            .arg(base.unwrap_or(&new))
            .arg(&files.release);
        command::run(&mut depmod)?;
        let _ = fs::remove_dir_all(&latest);
        fs::rename(&new, &latest).with_context(|| format!("{}: rename", new.display()))?;
        let files = Files::find(&latest)?;
        terminal::item("installed", &format!("Linux {}", files.release));
        Ok(files)
    }
}

/// The file that tells when a kernel was fetched, and what it was.
const FETCHED: &str = "fetched";

/// What was unpacked before, for a week: suites get security updates.
fn kept(folder: &Path) -> Option<Files> {
    const FRESH: std::time::Duration = std::time::Duration::from_hours(7 * 24);
    let fetched = fs::metadata(folder.join(FETCHED)).ok()?;
    let age = fetched.modified().ok()?.elapsed().ok()?;
    if age > FRESH {
        let _ = fs::remove_dir_all(folder);
        return None;
    }
    Files::find(folder).ok()
}

/// The one that begins so, with a version behind.
fn find(packages: &[String], prefix: &str) -> Option<String> {
    let is_it = |package: &&String| {
        let rest = package.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    packages.iter().find(is_it).cloned()
}

impl Files {
    fn find(root: &Path) -> Result<Self> {
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|place| root.join(place))
            .into_iter()
            .find(|it| it.is_dir())
            .with_context(|| format!("{}: no modules", root.display()))?;
        let release = only_name(&modules)?;
        let candidates = [
            root.join(format!("boot/vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ];
        let image = candidates
            .into_iter()
            .find(|it| it.is_file())
            .with_context(|| format!("{}: no kernel", root.display()))?;
        Ok(Self {
            image,
            modules,
            release,
        })
    }
}

fn only_name(folder: &Path) -> Result<String> {
    let mut names = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.file_name());
    let name = names.next();
    let name = name.as_deref().and_then(OsStr::to_str);
    Ok(name
        .with_context(|| format!("{}: empty", folder.display()))?
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_found_among_what_a_package_depends_on() {
        let packages = [
            "linux-base",
            "linux-modules-cloud-amd64",
            "linux-modules-7.3.4-cloud",
        ];
        let packages = packages.map(str::to_owned);
        let found = find(&packages, "linux-modules-");
        assert_eq!(found.as_deref(), Some("linux-modules-7.3.4-cloud"));
        assert_eq!(find(&packages, "linux-binary-"), None);
    }
}
