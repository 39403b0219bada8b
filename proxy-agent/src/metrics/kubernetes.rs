//! What all components of Kubernetes export (`k8s.io/component-base/metrics`), kube-proxy too.

use prometheus::{IntGaugeVec, Opts, Registry};

use super::register;

/// The release of Kubernetes whose kube-proxy this one stands in for.
const MAJOR: &str = "1";
const MINOR: &str = "36";

/// Features of kube-proxy, all of them stable, which this one has too.
const FEATURES: [&str; 4] = [
    "LoadBalancerIPMode",
    "MultiCIDRServiceAllocator",
    "PreferSameTrafficDistribution",
    "ServiceTrafficDistribution",
];

/// Metrics that never change.
pub(super) fn export_constants(registry: &Registry) {
    let constant = |name: &str, help: &str, labels: &[&str]| {
        register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
    };
    constant(
        "kubernetes_build_info",
        "Always 1; the labels say which release of Kubernetes this proxy follows, and its own build",
        &[
            "major",
            "minor",
            "git_version",
            "git_commit",
            "git_tree_state",
            "build_date",
            "go_version",
            "compiler",
            "platform",
        ],
    )
    .with_label_values(&[
        MAJOR,
        MINOR,
        concat!("v1.36.0+proxy-agent-", env!("CARGO_PKG_VERSION")),
        "",
        "",
        "",
        "",
        "rustc",
        &format!("{}/{}", std::env::consts::OS, go_architecture()),
    ])
    .set(1);
    let features = constant(
        "kubernetes_feature_enabled",
        "Whether a feature of kube-proxy is there",
        &["name", "stage"],
    );
    for name in FEATURES {
        // Of a stable feature the stage is empty.
        features.with_label_values(&[name, ""]).set(1);
    }
}

/// The architecture by the name that Go has for it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
