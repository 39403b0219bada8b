//! Who else translates Services' addresses.

use crate::check::{Facts, Finding, OtherProxies, State};
use crate::host::NftChain;

/// The tables of kube-proxy's mode nftables (`pkg/proxy/nftables/proxier.go`).
const NFT_TABLE: &str = "kube-proxy";
/// What chains of mode iptables begin with that no kubelet makes (`pkg/proxy/iptables/proxier.go`).
const CHAINS: [&str; 2] = ["KUBE-SERVICES", "KUBE-SVC-"];
const IPVS_DEVICE: &str = "kube-ipvs0";

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let others = &facts.others;
    let mut findings = vec![kube_proxy(others)];
    findings.extend(legacy(others));
    findings.extend([ipvs(others), cilium(others), calico(others)]);
    findings
}

fn is_of_kube_proxy(chain: &NftChain) -> bool {
    chain.table == NFT_TABLE || CHAINS.iter().any(|it| chain.name.starts_with(it))
}

fn kube_proxy(others: &OtherProxies) -> Finding {
    const CHECK: &str = "kube-proxy";
    let chains = match &others.chains {
        Ok(chains) => chains.iter().filter(|it| is_of_kube_proxy(it)).count(),
        Err(why) => {
            let advice = "run this with NET_ADMIN, or look with `nft list ruleset`";
            return Finding::of(State::Unknown, CHECK, why.as_str(), advice);
        }
    };
    if chains == 0 {
        return Finding::ok(CHECK, "no rules of a kube-proxy in nftables");
    }
    let taken_over = match others.translated {
        Ok(connections) => format!("; netfilter translates {connections} connections"),
        Err(_) => String::new(),
    };
    Finding::of(
        State::Warning,
        CHECK,
        format!("its rules are here, {chains} chains{taken_over}"),
        "install beside it; when all agents are ready, delete its DaemonSet, then \
         `kube-proxy --cleanup` (docs/MIGRATION.md)",
    )
}

/// Rules of the old iptables, into which only its own system calls look.
fn legacy(others: &OtherProxies) -> Option<Finding> {
    let has_nat = others.legacy_tables.iter().any(|table| table == "nat");
    has_nat.then(|| {
        Finding::of(
            State::Warning,
            "iptables-legacy",
            "the old iptables has a table nat, which may be a kube-proxy's",
            "`iptables-legacy-save -t nat | grep KUBE-SVC`; if so, as for kube-proxy",
        )
    })
}

fn ipvs(others: &OtherProxies) -> Finding {
    const CHECK: &str = "ipvs";
    if others.ipvs_services == 0 && !others.devices.contains(IPVS_DEVICE) {
        return Finding::ok(CHECK, "no virtual services");
    }
    Finding::of(
        State::Warning,
        CHECK,
        format!("{} virtual services", others.ipvs_services),
        "move the node when it is drained: connections of IPVS are not taken over, but reset \
         (docs/MIGRATION.md)",
    )
}

fn cilium(others: &OtherProxies) -> Finding {
    const CHECK: &str = "cilium";
    let has = |names: &std::collections::BTreeSet<String>, prefix: &str| {
        names.iter().any(|name| name.starts_with(prefix))
    };
    if has(&others.pins, "cilium_lb") {
        return Finding::of(
            State::Warning,
            CHECK,
            "it has maps for Services, so that it may serve them itself",
            "kubeProxyReplacement: \"false\" in its values: two must not translate one packet",
        );
    }
    if has(&others.devices, "cilium_") {
        return Finding::ok(CHECK, "it is here, and has no maps for Services");
    }
    Finding::ok(CHECK, "not here")
}

fn calico(others: &OtherProxies) -> Finding {
    const CHECK: &str = "calico";
    let has_nat = others.pins.iter().any(|pin| pin.starts_with("cali_v4_nat"));
    if has_nat || others.devices.contains("bpfin.cali") {
        return Finding::of(
            State::Warning,
            CHECK,
            "its eBPF mode serves Services itself",
            "`linuxDataplane: Iptables` in its Installation: two must not translate one packet",
        );
    }
    let mut devices = others.devices.iter();
    if devices.any(|name| name.starts_with("cali") || name == "vxlan.calico") {
        return Finding::ok(CHECK, "it is here, and leaves Services alone");
    }
    Finding::ok(CHECK, "not here")
}
