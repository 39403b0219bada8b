//! The program as it is called: what it says of mistakes, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::fs;
use std::process::{Command, Output};

/// The program; it does not look at this process's environment.
const PROGRAM: &str = env!("CARGO_BIN_EXE_proxy-agent");

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command.output().unwrap()
}

fn log(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_mistake_in_the_configuration_file_ends_the_start_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.conf");
    let path = file.to_str().unwrap();
    for (text, place) in [
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
             iptables:\n  syncPeriod: soon\n",
            "4:15: iptables.syncPeriod: a duration such as `30s`",
        ),
        ("a: [", "1:"),
        (
            "",
            "1:1: there is no document of kind KubeProxyConfiguration",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = run(&["run", "--config", path]);
        assert_eq!(output.status.code(), Some(2));
        let log = log(&output);
        assert!(log.contains("ERROR"), "{log}");
        assert!(log.contains(&format!("{path}:{place}")), "{log}");
    }
}

#[test]
fn a_configuration_file_that_is_not_there_is_named() {
    let output = run(&[
        "run",
        "--config",
        "/nowhere/config.conf",
        "--log-format",
        "json",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let log = log(&output);
    assert!(log.starts_with('{'), "{log}");
    assert!(log.contains("/nowhere/config.conf: No such file"), "{log}");
}

#[test]
fn a_bpf_file_system_is_mounted_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    // In a mount namespace of its own, which takes the mount with it.
    let script = "\"$0\" mount --bpffs \"$1\" && \"$0\" mount --bpffs \"$1\" && \
                  stat --file-system --format %T \"$1\" && stat --format %a \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, PROGRAM, path]);
    let output = command.output().unwrap();
    let log = log(&output);
    assert!(output.status.success(), "{log}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "bpf_fs\n1700\n");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("mounted a BPF file system"), "{log}");
    assert!(
        lines[1].contains("BPF file system is already mounted"),
        "{log}"
    );
}

/// Why the init container of manifests/base/daemonset.yaml is privileged.
#[test]
fn mounting_for_the_host_takes_one_capability_and_shared_propagation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    // The outer namespace is the host; in the inner one is a container with CAP_SYS_ADMIN alone.
    let script = "set -e; mount -t tmpfs tmpfs \"$1\"; mount --make-shared \"$1\"; mkdir \"$1/bpf\"
                  for propagation in slave shared; do
                      unshare --mount --propagation $propagation setpriv --inh-caps -all,+sys_admin \\
                          --bounding-set -all,+sys_admin \"$0\" mount --bpffs \"$1/bpf\"
                      stat --file-system --format \"$propagation %T\" \"$1/bpf\"
                  done";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, PROGRAM, path]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
    let seen = String::from_utf8(output.stdout).unwrap();
    assert_eq!(seen, "slave tmpfs\nshared bpf_fs\n");
}

#[test]
fn a_place_where_nothing_can_be_mounted_is_named() {
    let output = run(&["mount", "--bpffs", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    let log = log(&output);
    assert!(log.contains("/nowhere/at/all"), "{log}");
}

#[test]
fn pins_are_cleaned_up_in_a_bpf_file_system_only() {
    // With namespaces of its own: what is there is this test's.
    let script = "set -e; cd /sys/fs; mount -t bpf bpf bpf; mkdir -p bpf/proxy-agent/v1 bpf/other
                  \"$0\" run --cleanup; ls -d bpf/other; ! ls -d bpf/proxy-agent
                  mount -t tmpfs tmpfs bpf; mkdir bpf/proxy-agent
                  \"$0\" run --cleanup; ls -d bpf/proxy-agent";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", script, PROGRAM]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", log(&output));
    let left = String::from_utf8(output.stdout).unwrap();
    assert_eq!(left, "bpf/other\nbpf/proxy-agent\n");
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["run", "check", "hostname-override"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let mut bash = Command::new("bash");
    let script = "source <(\"$0\" completions bash) && COMP_WORDS=(proxy-agent che) COMP_CWORD=1 &&
                  _proxy__agent proxy-agent che proxy-agent && echo \"${COMPREPLY[@]}\"";
    let output = bash.args(["-c", script, PROGRAM]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout.clone()).unwrap(),
        "check\n",
        "{}",
        log(&output)
    );
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    assert!(
        run(&["man", "--out", out.to_str().unwrap()])
            .status
            .success()
    );
    let help = String::from_utf8(run(&["help"]).stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.lines().map_while(|line| line.strip_prefix("  "));
    let names = commands.filter_map(|line| line.split(' ').next());
    let mut pages = 0;
    for name in names.filter(|name| !["", "help"].contains(name)) {
        let page = out.join(format!("proxy-agent-{name}.1"));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
        pages += 1;
    }
    assert!(pages > 4, "{help}");
    let nowhere = run(&["man", "--out", "/proc/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(log(&nowhere).contains("/proc/nowhere"));
}
