//! Packages of any of Debian's suites, fetched but not installed: by a configuration of apt
//! that has nothing of this machine's but its mirrors.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::{command, paths};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of Debian's archives a suite is in, by the label of its releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Archive {
    Main,
    Security,
}

impl Archive {
    fn label(self) -> &'static str {
        match self {
            Self::Main => "Debian",
            Self::Security => "Debian-Security",
        }
    }
}

/// apt with some suites of its own.
pub(crate) struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    /// Reads the lists of this machine's own release for a processor, into the user's cache.
    pub(crate) fn of_this_release(arch: Arch) -> Result<Self> {
        let folder = paths::cache()?.join(format!("apt-{}", arch.name()));
        let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
        let codename = codename(&release).context("/etc/os-release names no release")?;
        let security = format!("{codename}-security");
        let suites = [(Archive::Main, codename), (Archive::Security, &*security)];
        Self::open(&folder, arch, &suites)
    }

    /// Reads the lists of these suites for a processor, into a folder.
    pub(crate) fn open(folder: &Path, arch: Arch, suites: &[(Archive, &str)]) -> Result<Self> {
        for inner in [
            "etc/preferences.d",
            "etc/apt.conf.d",
            "state/lists/partial",
            "cache/archives/partial",
        ] {
            let inner = folder.join(inner);
            fs::create_dir_all(&inner).with_context(|| format!("{}: mkdir", inner.display()))?;
        }
        let mirrors = mirrors()?;
        let mut sources = String::new();
        for (archive, suite) in suites {
            let label = archive.label();
            let (_, uri) = mirrors
                .iter()
                .find(|(it, _)| it == label)
                .with_context(|| format!("this machine's apt knows no mirror of {label}"))?;
            writeln!(sources, "deb [signed-by={KEYS}] {uri} {suite} main")?;
        }
        fs::write(folder.join("sources.list"), sources)?;
        let configuration = folder.join("apt.conf");
        let root = folder.display();
        fs::write(
            &configuration,
            format!(
                "Dir \"{root}\";\nDir::Etc \"{root}/etc\";\n\
                 Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
                 Dir::State \"{root}/state\";\nDir::State::status \"/dev/null\";\n\
                 Dir::Cache \"{root}/cache\";\n\
                 APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\nAcquire::Languages \"none\";\n\
                 APT::Sandbox::User \"root\";\n",
                arch = arch.name(),
            ),
        )?;
        let apt = Self {
            folder: folder.to_owned(),
            configuration,
        };
        let mut update = apt.command("apt-get");
        command::run(update.args(["update", "-qq"]).stdout(Stdio::null()))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command::outside(program);
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    /// What a package depends on.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut depends = self.command("apt-cache");
        depends.args(["depends", "--no-recommends", "--no-suggests", package]);
        let text = command::output(&mut depends)
            .with_context(|| format!("apt has no package {package}"))?;
        Ok(dependencies_in(&text))
    }

    /// Fetches packages and unpacks them into a folder.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let archives = into.with_extension("archives");
        let _ = fs::remove_dir_all(&archives);
        fs::create_dir_all(&archives)?;
        fs::create_dir_all(into)?;
        let mut download = self.command("apt-get");
        download.args(["download", "-qq"]).args(packages);
        command::run(download.current_dir(&archives).stdout(Stdio::null()))?;
        extract_all(&archives, into)?;
        Ok(fs::remove_dir_all(&archives)?)
    }

    /// The same with all that they depend on; nothing is configured.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        let mut install = self.command("apt-get");
        install.args(["install", "-y", "-qq", "--download-only"]);
        install.arg("--no-install-recommends").args(packages);
        command::run(install.stdout(Stdio::null()))?;
        extract_all(&self.folder.join("cache/archives"), into)
    }
}

/// Fills a folder, unless that was done before; one that was not filled to the end does not
/// count.
pub(crate) fn fill_once(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let new = folder.with_added_extension("new");
    let _ = fs::remove_dir_all(&new);
    fill(&new)?;
    fs::rename(&new, folder).with_context(|| format!("{}: rename", new.display()))
}

fn extract_all(archives: &Path, into: &Path) -> Result<()> {
    for archive in fs::read_dir(archives)? {
        let path = archive?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            let mut extract = command::outside("dpkg-deb");
            command::run(extract.arg("-x").arg(path).arg(into))?;
        }
    }
    Ok(())
}

/// The name of a release of Debian (os-release(5)).
fn codename(os_release: &str) -> Option<&str> {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
}

/// Labels of archives and where this machine gets them from.
fn mirrors() -> Result<BTreeSet<(String, String)>> {
    let list = || {
        let mut targets = command::outside("apt-get");
        targets.args(["indextargets", "--format", "$(LABEL) $(REPO_URI)"]);
        targets.arg("Identifier: Packages");
        command::output(&mut targets).map(|text| mirrors_in(&text))
    };
    let mut mirrors = list().unwrap_or_default();
    if mirrors.is_empty() {
        // The lists may never have been read.
        let _ = command::output(command::outside("apt-get").args(["update", "-qq"]));
        mirrors = list().unwrap_or_default();
    }
    ensure!(
        !mirrors.is_empty(),
        "kernels come from Debian's packages, and this machine's apt knows none of its mirrors"
    );
    Ok(mirrors)
}

fn mirrors_in(text: &str) -> BTreeSet<(String, String)> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(label, uri)| (label.to_owned(), uri.to_owned()))
        .collect()
}

fn dependencies_in(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_tells_its_mirrors() {
        let text = "Debian http://mirror/debian/\nDebian-Security http://mirror/security/\n\
                    Debian http://mirror/debian/\n";
        let found = mirrors_in(text);
        let pair = |label: &str, uri: &str| (label.to_owned(), uri.to_owned());
        assert_eq!(
            found,
            BTreeSet::from([
                pair("Debian", "http://mirror/debian/"),
                pair("Debian-Security", "http://mirror/security/"),
            ])
        );
    }

    #[test]
    fn a_release_has_a_name() {
        let text = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(text), Some("bookworm"));
    }

    #[test]
    fn apt_tells_what_a_package_depends_on() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(dependencies_in(text), ["linux-image-6.1.0-56-cloud-amd64"]);
    }
}
