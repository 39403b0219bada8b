//! Files as clusters have them, and what they come to.
//!
//! `summaries.txt` has for each file the settings that are not as by default, and
//! the fields that have no effect, with their lines.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proxy_agent::config::kube_proxy::{Parsed, Settings, parse, parse_files};
use proxy_agent::model::NodePortAddresses;
use proxy_agent::model::object::Algorithm;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The fields of a value that are not as in another, a line each.
macro_rules! differing {
    ($out:ident, $one:expr, $other:expr, $($field:ident),+) => {
        $(if $one.$field != $other.$field {
            let line = format!("{} = {:?}\n", stringify!($field), $one.$field);
            $out.push_str(&line);
        })+
    };
}

/// The files by name, with their texts.
fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .expect("the folder of this test")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a file that was just listed");
            let name = path.file_name().unwrap_or_default();
            (name.to_string_lossy().into_owned(), text)
        })
        .collect();
    files.sort();
    files
}

fn summary(parsed: &Parsed) -> String {
    let Parsed {
        settings, ignored, ..
    } = parsed;
    let default = Settings::default();
    let mut out = String::new();
    differing!(
        out,
        settings,
        default,
        node_name,
        bind_address,
        health_address,
        metrics_address,
        masquerade_all,
        sync_period,
        min_sync_period,
        node_port_addresses,
        kubeconfig,
        log,
        oom_score_adj
    );
    differing!(
        out,
        settings.own,
        default.own,
        maps,
        nat_ports,
        attach,
        xdp,
        algorithm,
        forwarding,
        socket_path,
        cgroup,
        pod_opt_out,
        reset_gone_endpoints,
        external_ips
    );
    for field in ignored {
        let line = format!("{}: {}: {}\n", field.line, field.path, field.reason);
        out.push_str(&line);
    }
    out
}

#[test]
fn every_file_comes_to_its_summary() {
    let mut found = String::new();
    for (name, text) in files() {
        let parsed = parse(&text, Path::new(&name)).unwrap_or_else(|error| panic!("{error}"));
        writeln!(found, "== {name}\n{}", summary(&parsed)).unwrap();
    }
    let wanted = fs::read_to_string(folder().join("summaries.txt")).unwrap();
    assert_eq!(found.trim_end(), wanted.trim_end(), "found:\n{found}");
}

#[test]
fn a_file_with_only_what_must_be_in_it_is_all_defaults() {
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
        mode: nftables\n";
    let parsed = parse(text, Path::new("f")).unwrap();
    assert_eq!(parsed.settings, Settings::default());
    assert_eq!(parsed.ignored, []);
}

#[test]
fn node_ports_answer_on_the_addresses_that_kube_proxy_has_in_the_files_mode() {
    let file = |more: &str| {
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n{more}"
        );
        let parsed = parse(&text, Path::new("f")).unwrap();
        parsed.settings.node_port_addresses
    };
    let (all, primary) = (NodePortAddresses::all(), NodePortAddresses::default());
    for mode in ["", "mode: ''\n", "mode: iptables\n", "mode: ipvs\n"] {
        for unset in ["", "nodePortAddresses: null\n", "nodePortAddresses: []\n"] {
            assert_eq!(file(&format!("{mode}{unset}")), all, "{mode}{unset}");
        }
        assert_eq!(
            file(&format!("{mode}nodePortAddresses: [primary]\n")),
            primary
        );
    }
    assert_eq!(file("mode: nftables\nnodePortAddresses: null\n"), primary);
}

#[test]
fn line_ends_and_marks_of_other_systems_do_no_harm() {
    let text = fs::read_to_string(folder().join("kubeadm.yaml")).unwrap();
    let wanted = parse(&text, Path::new("f"));
    let from_elsewhere = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(parse(&from_elsewhere, Path::new("f")), wanted);
}

#[test]
fn the_order_of_the_documents_does_not_matter() {
    let text = fs::read_to_string(folder().join("shared.yaml")).unwrap();
    let settings = |text: &str| parse(text, Path::new("f")).unwrap().settings;
    let (first, second) = text.split_once("---\n").unwrap();
    let turned = format!("{second}---\n{first}");
    assert_eq!(settings(&turned), settings(&text));
}

/// As while an editor writes it in place.
#[test]
fn half_a_file_is_refused_or_read_but_never_a_panic() {
    for (name, text) in files() {
        for end in (0..text.len()).step_by(5) {
            let _ = parse(&text[..end], Path::new(&name));
            let _ = parse(&text[end..], Path::new(&name));
        }
    }
}

/// That of kube-proxy without own settings, and one with both kinds: what a cluster has that
/// was made by kubeadm, and where it was not.
#[test]
fn of_several_files_the_first_document_of_each_kind_counts() {
    let header = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let theirs = format!("{header}hostnameOverride: theirs\n");
    let ours = format!(
        "{header}hostnameOverride: ours\nmode: nftables\n---\n\
        apiVersion: proxy-agent/v1alpha1\nkind: ProxyAgentConfiguration\nlbAlgorithm: maglev\n"
    );
    let (their_file, our_file) = (Path::new("kube-proxy"), Path::new("proxy-agent"));
    let parsed = parse_files(&[(&theirs, their_file), (&ours, our_file)]).unwrap();
    assert_eq!(parsed.settings.node_name.as_deref(), Some("theirs"));
    assert_eq!(parsed.settings.own.algorithm, Algorithm::Maglev);
    let said: Vec<_> = parsed
        .documents
        .iter()
        .map(|it| (it.kind, it.file.as_path(), it.is_used))
        .collect();
    let (kube_proxy, own) = ("KubeProxyConfiguration", "ProxyAgentConfiguration");
    let expected = [
        (kube_proxy, their_file, true),
        (kube_proxy, our_file, false),
        (own, our_file, true),
    ];
    assert_eq!(said, expected);

    let mistake = ours.replace("maglev", "fast");
    let error = parse_files(&[(&theirs, their_file), (&mistake, our_file)]).unwrap_err();
    assert_eq!((error.file.as_path(), error.line), (our_file, 8));
}
