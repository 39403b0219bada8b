//! The settings in force as kube-proxy's `/configz` shows its own.

use serde_json::{Value, json};

use super::settings::Settings;
use super::table::settings_of;
use super::{KUBE_PROXY, OWN};

/// A JSON object with a member for each of the two kinds of document, which could be
/// read again as a configuration file.
pub fn configz(node_name: &str, settings: &Settings) -> Value {
    let mut kube_proxy = document(KUBE_PROXY, settings);
    kube_proxy["hostnameOverride"] = node_name.into();
    // The closest of kube-proxy's modes: here it only says where some settings stand.
    kube_proxy["mode"] = "nftables".into();
    json!({
        "kubeproxy.config.k8s.io": kube_proxy,
        "proxy-agent": document(OWN, settings),
    })
}

fn document(kind: (&'static str, &'static str), settings: &Settings) -> Value {
    let mut document = json!({"apiVersion": kind.0, "kind": kind.1});
    for setting in settings_of(kind) {
        let path = setting.row.path.split('.');
        let place = path.fold(&mut document, |group, name| &mut group[name]);
        *place = (setting.access.show)(settings);
    }
    document
}
