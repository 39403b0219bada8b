//! The command on this machine.

use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_proxy-agent");

/// Runs it in namespaces of its own, with a device that could lead out.
fn check(prepare: &str, arguments: &str) -> Output {
    let script = format!(
        "set -e; ip link set lo up; ip link add eth0 type veth peer eth1
         sysctl -qw net.ipv4.ip_forward=1; {prepare}
         exec \"$0\" check {arguments}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", &script, PROGRAM]);
    command.output().unwrap()
}

/// The state of one thing that was looked at.
fn state(output: &Output, check: &str) -> String {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut findings = report["findings"].as_array().unwrap().iter();
    let finding = findings.find(|it| it["check"] == check);
    finding.unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn rules_of_a_kube_proxy_and_its_ipvs_device_are_found() {
    let output = check("", "-o json");
    assert_eq!(state(&output, "kube-proxy"), "ok");
    assert_eq!(state(&output, "ipvs"), "ok");
    let rules = "nft add table ip kube-proxy; nft add chain ip kube-proxy services
                 ip link add kube-ipvs0 type veth peer other";
    let output = check(rules, "-o json");
    assert_eq!(state(&output, "kube-proxy"), "warning");
    assert_eq!(state(&output, "ipvs"), "warning");
    // Of iptables, which writes to nftables.
    let output = check("iptables-nft -t nat -N KUBE-SERVICES", "-o json");
    assert_eq!(state(&output, "kube-proxy"), "warning");
}

/// As in a node that is a container: its uplink is a device like those of Pods.
#[test]
fn the_uplink_is_the_device_of_the_default_route() {
    let prepare = "mount -t tmpfs tmpfs /run; ip netns add fabric; ip netns add pod; ip link del eth0
                   ip link add eth0 type veth peer netns fabric; ip link add veth1 type veth peer netns pod
                   ip address add 192.0.2.2/24 dev eth0; ip address add 10.244.0.1/32 dev veth1
                   ip link set eth0 up; ip link set veth1 up; ip route add default via 192.0.2.1";
    let output = check(prepare, "-o json");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let devices = findings.iter().find(|it| it["check"] == "devices");
    let found = "0 uplinks, 1 tunnels and the like, 1 of Pods";
    assert_eq!(devices.unwrap()["found"], found);
    assert_eq!(state(&output, "device eth0"), "ok");
}

#[test]
fn programs_are_tried_and_not_left_behind() {
    let output = check("", "-o json");
    assert_eq!(state(&output, "capabilities"), "ok");
    assert_eq!(state(&output, "forwarding"), "ok");
    // Which is too old for the stages that claim records.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let is_old = release.starts_with("5.10.");
    let expected = if is_old { "error" } else { "ok" };
    assert_eq!(state(&output, "programs"), expected);
    let code = i32::from(is_old);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let output = check("sysctl -qw net.ipv4.ip_forward=0", "-o json");
    assert_eq!(state(&output, "forwarding"), "error");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_capabilities_an_error_says_which() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--clear-groups", PROGRAM, "check"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("this process lacks NET_ADMIN, PERFMON, BPF"),
        "{text}"
    );
}
