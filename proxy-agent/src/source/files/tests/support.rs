//! Objects as texts, and what a source says about them in short.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::model::object::Change;
use crate::source::files::events::Hints;
use crate::source::files::folder::Folder;
use crate::source::files::notice::Notice;

/// A Service of the namespace `n`.
pub(super) fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: n, name: {name}}}\n\
         spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )
}

/// A slice of the namespace `n`.
pub(super) fn slice(name: &str, service: &str, address: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{namespace: n, name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
         endpoints: [{{addresses: [{address}]}}]\nports: [{{name: '', port: 8080}}]\n"
    )
}

/// The node `name`.
pub(super) fn node(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
         status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
    )
}

/// One word for each change.
pub(super) fn short(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Service(service) => {
                format!("{}={}", service.name, service.cluster_ips.join(","))
            }
            Change::ServiceGone(name) => format!("-{name}"),
            Change::EndpointSlice(slice) => format!(
                "{}>{}={}",
                slice.name, slice.service.name, slice.endpoints[0].address
            ),
            Change::EndpointSliceGone(name) => format!("-slice {name}"),
            Change::Node(node) => format!("node={}", node.addresses[0]),
            Change::NodeGone => "-node".to_owned(),
            Change::ServiceCidr(cidr) => format!("cidr {}={}", cidr.name, cidr.ranges[0]),
            Change::ServiceCidrGone(name) => format!("-cidr {name}"),
            Change::Pod(pod) => format!("pod {}={}", pod.name, pod.uid),
            Change::PodGone(name) => format!("-pod {name}"),
            Change::ServicesListed => "services".to_owned(),
            Change::EndpointSlicesListed => "slices".to_owned(),
            Change::NodeListed => "nodes".to_owned(),
        })
        .collect()
}

/// Writes a file as careful programs do: elsewhere, and then into place.
pub(super) fn put(directory: &Path, name: &str, text: &str) {
    let temporary = directory.join(format!(".{name}.tmp"));
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, directory.join(name)).unwrap();
}

/// A folder, and the words of the last look.
pub(super) struct Looker {
    folder: Folder,
    pub(super) notices: Vec<String>,
}

impl Looker {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            folder: Folder::new(directory.to_owned(), "here".into()),
            notices: Vec::new(),
        }
    }

    pub(super) fn look(&mut self) -> Vec<String> {
        self.look_with(&Hints::default())
    }

    pub(super) fn look_with(&mut self, hints: &Hints) -> Vec<String> {
        let scan = self.folder.scan(hints);
        let words = |notice: &Notice| match notice {
            Notice::Broken { file, error } => format!("{file}: {error}"),
            Notice::Fixed { file } => format!("{file} fixed"),
            Notice::Ignored { file, kind, .. } => format!("{file} ignored {kind}"),
            Notice::Repeated {
                object,
                kept,
                ignored,
            } => format!("{object}: {kept}, not {ignored}"),
            Notice::Gone { .. } => "gone".to_owned(),
            Notice::Back { .. } => "back".to_owned(),
        };
        self.notices = scan.notices.iter().map(words).collect();
        short(&scan.changes)
    }
}

/// A folder with nothing in it.
pub(super) fn empty() -> (TempDir, Looker) {
    let directory = tempfile::tempdir().unwrap();
    let looker = Looker::new(directory.path());
    (directory, looker)
}
