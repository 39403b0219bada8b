//! The folder of Kubernetes objects that the lab's agents watch.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{addresses::Family, node::Pod};

/// The line that starts the part of an EndpointSlice that [`Manifests::set_endpoints`] replaces.
const ENDPOINTS: &str = "\nendpoints:";

/// A lab's own copy of `manifests/examples`.
#[derive(Clone, Debug)]
pub struct Manifests {
    path: PathBuf,
}

impl Manifests {
    /// Copies the examples into `<directory>/manifests`.
    pub fn copy_examples(directory: &Path) -> Result<Self> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
        let path = directory.join("manifests");
        fs::create_dir(&path).with_context(|| format!("{}: mkdir", path.display()))?;
        let entries =
            fs::read_dir(&examples).with_context(|| format!("{}: read", examples.display()))?;
        for entry in entries {
            let file = entry?.path();
            if let (Some("yaml"), Some(name)) = (
                file.extension().and_then(|it| it.to_str()),
                file.file_name(),
            ) {
                fs::copy(&file, path.join(name))?;
            }
        }
        Ok(Self { path })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file `<name>.yaml`.
    pub fn read(&self, name: &str) -> Result<String> {
        let file = self.file(name);
        fs::read_to_string(&file).with_context(|| format!("{}: read", file.display()))
    }

    /// Replaces or adds the file `<name>.yaml` in one step, so that nobody sees half of it.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let file = self.file(name);
        let draft = self.path.join(format!(".{name}.draft"));
        fs::write(&draft, content).with_context(|| format!("{}: write", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("{}: rename", file.display()))
    }

    /// Removes the file `<name>.yaml`.
    pub fn remove(&self, name: &str) -> Result<()> {
        let file = self.file(name);
        fs::remove_file(&file).with_context(|| format!("{}: remove", file.display()))
    }

    /// Makes these pods, all ready, the endpoints of a Service, in both families at once.
    ///
    /// Whether that changes anything.
    pub fn set_endpoints(&self, service: &str, pods: &[&Pod]) -> Result<bool> {
        let name = format!("{service}-endpoints");
        let before = self.read(&name)?;
        let slices = with_endpoints(&before, pods)?;
        self.write(&name, &slices)?;
        Ok(slices.trim_end() != before.trim_end())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.yaml"))
    }
}

/// Rewrites the endpoints of slices; in the examples these are each slice's last field.
fn with_endpoints(slices: &str, pods: &[&Pod]) -> Result<String> {
    let mut rewritten = Vec::new();
    for slice in slices.split("\n---\n") {
        let head = slice.split(ENDPOINTS).next().unwrap_or_default();
        ensure!(head.len() < slice.len(), "no `endpoints:` in:\n{slice}");
        let family = if head.contains("addressType: IPv6") {
            Family::V6
        } else {
            Family::V4
        };
        rewritten.push(format!("{head}{ENDPOINTS}{}", endpoints(pods, family)));
    }
    Ok(rewritten.join("---\n"))
}

fn endpoints(pods: &[&Pod], family: Family) -> String {
    if pods.is_empty() {
        return " []\n".into();
    }
    let mut list = String::from("\n");
    for pod in pods {
        let address = pod.addresses.of(family);
        let (node, name) = (&pod.node, &pod.name);
        for line in [
            format!("  - addresses: [\"{address}\"]"),
            "    conditions: {ready: true, serving: true, terminating: false}".into(),
            format!("    nodeName: {node}"),
            format!("    targetRef: {{kind: Pod, namespace: default, name: {name}}}"),
        ] {
            list += &line;
            list.push('\n');
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoints_of_each_slice_are_replaced() {
        let slices = "kind: A\nendpoints:\n  - x\n---\nkind: B\nendpoints:\n  - y\n";
        let emptied = with_endpoints(slices, &[]).unwrap();
        assert_eq!(
            emptied,
            "kind: A\nendpoints: []\n---\nkind: B\nendpoints: []\n"
        );
        assert_eq!(with_endpoints(&emptied, &[]).unwrap(), emptied);
        assert!(with_endpoints("kind: Service\n", &[]).is_err());
    }
}
