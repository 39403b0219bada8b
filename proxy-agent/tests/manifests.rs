//! The manifests are what the API takes, to the last field, and ask for no more rights
//! than are needed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, PodSpec, Probe, ServiceAccount, VolumeMount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use proxy_agent::config::kube_proxy::{Settings, parse};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

/// The documents of a file.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// `document` as an object of the API, all of whose fields are the API's.
fn strictly<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let object: T = serde_json::from_value(document.clone()).unwrap();
    let known = serde_json::to_value(&object).unwrap();
    let mut lost = Vec::new();
    find_lost("", document, &known, &mut lost);
    assert!(lost.is_empty(), "the API does not know {lost:?}");
    object
}

/// The paths in `written` that are not in `known`, or not so.
fn find_lost(path: &str, written: &Value, known: &Value, lost: &mut Vec<String>) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => find_lost(&path, value, known, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(known)) if written.len() == known.len() => {
            for (number, (value, known)) in written.iter().zip(known).enumerate() {
                find_lost(&format!("{path}[{number}]"), value, known, lost);
            }
        }
        _ if written == known => {}
        _ => lost.push(path.to_owned()),
    }
}

fn only<T: DeserializeOwned + Serialize>(file: &str) -> T {
    let documents = documents(file);
    assert_eq!(documents.len(), 1, "{file}");
    strictly(&documents[0])
}

fn pod() -> PodSpec {
    let daemon_set: DaemonSet = only("base/daemonset.yaml");
    daemon_set.spec.unwrap().template.spec.unwrap()
}

fn container() -> Container {
    let mut containers = pod().containers;
    assert_eq!(containers.len(), 1);
    containers.remove(0)
}

#[test]
fn what_the_api_does_not_know_is_found() {
    let mut document = documents("base/daemonset.yaml").remove(0);
    document["spec"]["template"]["spec"]["hostNetwrok"] = json!(true);
    document["spec"]["template"]["spec"]["containers"][0]["securityContext"]["caps"] = json!([]);
    let object: DaemonSet = serde_json::from_value(document.clone()).unwrap();
    let mut lost = Vec::new();
    let known = serde_json::to_value(&object).unwrap();
    find_lost("", &document, &known, &mut lost);
    lost.sort();
    assert_eq!(
        lost,
        [
            ".spec.template.spec.containers[0].securityContext.caps",
            ".spec.template.spec.hostNetwrok",
        ]
    );
}

/// The folders that are for `kubectl apply -k`.
const KUSTOMIZATIONS: [&str; 3] = ["", "pod-opt-out", "no-mount"];

fn kustomization(folder: &str) -> Value {
    let file = Path::new(folder).join("kustomization.yaml");
    let kustomization = documents(file.to_str().unwrap()).remove(0);
    assert_eq!(
        kustomization["apiVersion"],
        "kustomize.config.k8s.io/v1beta1"
    );
    assert_eq!(kustomization["kind"], "Kustomization");
    kustomization
}

fn resources(folder: &str) -> BTreeSet<String> {
    let kustomization = kustomization(folder);
    let resources = kustomization["resources"].as_array().unwrap().iter();
    resources
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_base_lists_every_file() {
    assert_eq!(kustomization("base")["namespace"], "kube-system");
    let mut present: BTreeSet<_> = fs::read_dir(folder().join("base"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    present.remove("kustomization.yaml");
    assert_eq!(resources("base"), present);
}

/// kustomize refuses a folder that takes one in which it lies itself.
#[test]
fn what_is_applied_takes_the_base_which_lies_beside_or_below_it() {
    let base = folder().join("base").canonicalize().unwrap();
    for of in KUSTOMIZATIONS {
        let of = folder().join(of).canonicalize().unwrap();
        let resources = resources(of.to_str().unwrap());
        assert_eq!(resources.len(), 1, "{of:?}");
        let taken = of.join(resources.first().unwrap()).canonicalize().unwrap();
        assert_eq!(taken, base);
        assert!(!of.starts_with(&taken), "a cycle: {of:?} takes {taken:?}");
    }
}

/// What kustomize makes of a folder; `None` where this machine has none.
fn kustomize(folder: &Path) -> Option<String> {
    let programs: [&[&str]; 2] = [&["kustomize", "build"], &["kubectl", "kustomize"]];
    for program in programs {
        let output = Command::new(program[0])
            .arg(program[1])
            .arg(folder)
            .output();
        let Ok(output) = output else { continue };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?}: {said}");
        return Some(String::from_utf8(output.stdout).unwrap());
    }
    None
}

#[test]
fn kustomize_builds_what_cleans_up() {
    assert_eq!(resources("cleanup").len(), 1);
    let Some(text) = kustomize(&folder().join("cleanup")) else {
        println!("skipped: neither kustomize nor kubectl is installed");
        return;
    };
    let daemon_set: DaemonSet = strictly(&serde_saphyr::from_str(&text).unwrap());
    let name = daemon_set.metadata.name.unwrap();
    assert_eq!(name, "proxy-agent-cleanup");
}

#[test]
fn kustomize_builds_what_is_applied() {
    for of in KUSTOMIZATIONS {
        let Some(text) = kustomize(&folder().join(of)) else {
            println!("skipped: neither kustomize nor kubectl is installed");
            return;
        };
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let find = |kind: &str| {
            let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
            of_kind.next().cloned().unwrap()
        };
        assert_eq!(objects.len(), 5, "{text}");
        let daemon_set: DaemonSet = strictly(&find("DaemonSet"));
        let role: ClusterRole = strictly(&find("ClusterRole"));
        let pod = daemon_set.spec.unwrap().template.spec.unwrap();
        let mounts = pod
            .init_containers
            .as_ref()
            .is_some_and(|it| !it.is_empty());
        assert_eq!(mounts, of != "no-mount");
        let args = pod.containers[0].args.clone().unwrap();
        let opts_out = of == "pod-opt-out";
        assert_eq!(args.contains(&"--pod-opt-out".to_owned()), opts_out);
        let rules = role.rules.unwrap();
        let reads_pods = rules
            .iter()
            .any(|rule| rule.resources.as_deref() == Some(&["pods".to_owned()]));
        assert_eq!(reads_pods, opts_out);
    }
}

/// The API server sets `uid` and refuses another one; the garbage collector deletes what
/// names an owner of another `uid`. Server-side apply takes one address of each type.
#[test]
fn the_examples_can_be_applied() {
    for entry in fs::read_dir(folder().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for object in documents(&format!("examples/{name}")) {
            let metadata = object["metadata"].as_object().unwrap();
            for field in ["uid", "ownerReferences", "resourceVersion"] {
                assert!(!metadata.contains_key(field), "{name} has {field}");
            }
            let addresses = object["status"]["addresses"].as_array();
            let types: Vec<_> = addresses
                .into_iter()
                .flatten()
                .map(|address| address["type"].as_str().unwrap())
                .collect();
            let distinct: BTreeSet<_> = types.iter().collect();
            assert_eq!(distinct.len(), types.len(), "{name}: {types:?}");
        }
    }
}

#[test]
fn names_and_labels_agree() {
    let account: ServiceAccount = only("base/serviceaccount.yaml");
    let config: ConfigMap = only("base/configmap.yaml");
    let daemon_set: DaemonSet = only("base/daemonset.yaml");
    for metadata in [&account.metadata, &config.metadata, &daemon_set.metadata] {
        assert_eq!(metadata.name.as_deref(), Some("proxy-agent"));
        assert_eq!(metadata.namespace.as_deref(), Some("kube-system"));
    }
    let spec = daemon_set.spec.unwrap();
    let labels = spec.template.metadata.unwrap().labels;
    assert_eq!(spec.selector.match_labels, labels);
    assert_eq!(spec.selector.match_labels, daemon_set.metadata.labels);
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.metadata.name);
}

#[test]
fn the_overlay_for_pods_that_opt_out_fits_what_it_changes() {
    let overlay = kustomization("pod-opt-out");
    let patch = |at: usize| -> Value {
        let patch = &overlay["patches"][at];
        assert_eq!(patch["target"]["name"], "proxy-agent");
        let operations: Value = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        assert_eq!(operations.as_array().unwrap().len(), 1);
        assert_eq!(operations[0]["op"], "add");
        operations[0].clone()
    };
    let rule = patch(0);
    assert_eq!(overlay["patches"][0]["target"]["kind"], "ClusterRole");
    assert_eq!(rule["path"], "/rules/-");
    let rule: PolicyRule = serde_json::from_value(rule["value"].clone()).unwrap();
    assert_eq!(rule.resources.unwrap(), ["pods"]);
    assert_eq!(rule.verbs, ["list", "watch"]);
    let argument = patch(1);
    assert_eq!(overlay["patches"][1]["target"]["kind"], "DaemonSet");
    assert_eq!(argument["path"], "/spec/template/spec/containers/0/args/-");
    assert_eq!(argument["value"], "--pod-opt-out");
    assert_eq!(container().name, "proxy-agent");
}

#[test]
fn the_agent_sees_the_hosts_cgroups() {
    let container = container();
    let mounts = container.volume_mounts.unwrap();
    let mount = mounts.iter().find(|mount| mount.name == "cgroup").unwrap();
    // Not over the container's own.
    assert_ne!(mount.mount_path, "/sys/fs/cgroup");
    assert_eq!(mount.read_only, Some(true));
    let volumes = pod().volumes.unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume.name == "cgroup")
        .unwrap();
    assert_eq!(volume.host_path.as_ref().unwrap().path, "/sys/fs/cgroup");
}

#[test]
fn rights_are_those_that_are_needed_and_no_more() {
    let documents = documents("base/rbac.yaml");
    assert_eq!(documents.len(), 2);
    let role: ClusterRole = strictly(&documents[0]);
    let right = |groups: &[&str], resource: &str, verbs: &[&str]| PolicyRule {
        api_groups: Some(groups.iter().map(ToString::to_string).collect()),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    };
    let read = ["get", "list", "watch"];
    let wanted = vec![
        right(&[""], "services", &read),
        right(&["discovery.k8s.io"], "endpointslices", &read),
        right(&["networking.k8s.io"], "servicecidrs", &read),
        right(&[""], "nodes", &read),
        right(&["events.k8s.io"], "events", &["create", "patch"]),
    ];
    assert_eq!(role.rules, Some(wanted));
    assert_eq!(role.aggregation_rule, None);

    let binding: ClusterRoleBinding = strictly(&documents[1]);
    assert_eq!(binding.role_ref.kind, "ClusterRole");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    let subjects = binding.subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(subjects[0].kind, "ServiceAccount");
    assert_eq!(subjects[0].name, "proxy-agent");
    assert_eq!(subjects[0].namespace.as_deref(), Some("kube-system"));
}

#[test]
fn the_agent_has_the_capabilities_that_it_needs_and_no_more() {
    let context = container().security_context.unwrap();
    let capabilities = context.capabilities.unwrap();
    assert_eq!(capabilities.drop.unwrap(), ["ALL"]);
    assert_eq!(capabilities.add.unwrap(), ["BPF", "NET_ADMIN", "PERFMON"]);
    assert_eq!(context.privileged, Some(false));
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.run_as_user, Some(0));
    // To pin maps and links.
    let app_armor = context.app_armor_profile.unwrap();
    assert_eq!(app_armor.type_, "Unconfined");
    let se_linux = context.se_linux_options.unwrap();
    assert_eq!(se_linux.type_.as_deref(), Some("spc_t"));
    let daemon_set: DaemonSet = only("base/daemonset.yaml");
    let template = daemon_set.spec.unwrap().template.metadata.unwrap();
    let annotation = "container.apparmor.security.beta.kubernetes.io/proxy-agent";
    assert_eq!(template.annotations.unwrap()[annotation], "unconfined");
    let seccomp = pod().security_context.unwrap().seccomp_profile.unwrap();
    assert_eq!(seccomp.type_, "RuntimeDefault");
}

#[test]
fn only_the_init_container_is_privileged_and_it_mounts_for_the_host() {
    let pod = pod();
    let init = pod.init_containers.unwrap();
    assert_eq!(init.len(), 1);
    assert_eq!(init[0].image, pod.containers[0].image);
    let context = init[0].security_context.as_ref().unwrap();
    assert_eq!(context.privileged, Some(true));
    assert_eq!(context.run_as_user, Some(0));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let propagation = |container: &Container| {
        let mounts = container.volume_mounts.as_ref().unwrap();
        let mount = mounts.iter().find(|mount| mount.name == "bpffs").unwrap();
        mount.mount_propagation.clone()
    };
    assert_eq!(propagation(&init[0]).as_deref(), Some("Bidirectional"));
    let seen = propagation(&pod.containers[0]);
    assert_eq!(seen.as_deref(), Some("HostToContainer"));
}

#[test]
fn the_agent_runs_on_every_node_before_all_else() {
    let daemon_set: DaemonSet = only("base/daemonset.yaml");
    let strategy = daemon_set.spec.unwrap().update_strategy.unwrap();
    assert_eq!(strategy.type_.as_deref(), Some("RollingUpdate"));
    let pod = pod();
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(pod.host_pid, None);
    assert_eq!(pod.host_ipc, None);
    assert_eq!(
        pod.priority_class_name.as_deref(),
        Some("system-node-critical")
    );
    let tolerations = pod.tolerations.unwrap();
    assert_eq!(tolerations.len(), 1);
    assert_eq!(tolerations[0].operator.as_deref(), Some("Exists"));
    assert_eq!(
        (&tolerations[0].key, &tolerations[0].effect),
        (&None, &None)
    );
}

/// Nobody but the agent can: the socket is in a volume of the Pod's own.
#[test]
fn the_probes_ask_where_the_agent_answers() {
    const SOCKET: &str = "/run/proxy-agent/probe.sock";
    let container = container();
    let asked = |probe: Option<Probe>| {
        let command = probe.unwrap().exec.unwrap().command.unwrap();
        let [program, probe, question, socket] = command.try_into().unwrap();
        assert_eq!([program, probe], ["/proxy-agent", "probe"]);
        assert_eq!(socket, format!("--socket={SOCKET}"));
        question
    };
    assert_eq!(asked(container.startup_probe), "live");
    assert_eq!(asked(container.liveness_probe), "live");
    assert_eq!(asked(container.readiness_probe), "ready");
    let args = container.args.unwrap();
    assert!(args.contains(&format!("--probe-socket={SOCKET}")));
    let mounts = container.volume_mounts.unwrap();
    let mount = mounts.iter().find(|mount| mount.name == "run").unwrap();
    assert_eq!(
        Path::new(SOCKET).parent(),
        Some(Path::new(&mount.mount_path))
    );
    let volumes = pod().volumes.unwrap();
    let volume = volumes.iter().find(|volume| volume.name == "run").unwrap();
    let medium = volume.empty_dir.as_ref().unwrap().medium.as_deref();
    assert_eq!(medium, Some("Memory"));
}

#[test]
fn the_agent_gets_its_configuration_and_its_nodes_name() {
    let container = container();
    let args = container.args.unwrap();
    assert_eq!(args[0], "run");
    let [node, server] = container.env.unwrap().try_into().unwrap();
    assert_eq!(node.name, "NODE_NAME");
    let field = node.value_from.unwrap().field_ref.unwrap();
    assert_eq!(field.field_path, "spec.nodeName");
    assert_eq!(server.name, "API_SERVER");
    let key = server.value_from.unwrap().config_map_key_ref.unwrap();
    assert_eq!(
        (key.name.as_str(), key.key.as_str()),
        ("proxy-agent", "apiServer")
    );
    let patch = &kustomization("")["patches"][0];
    assert_eq!(
        patch["target"],
        json!({"kind": "ConfigMap", "name": "proxy-agent"})
    );
    let set: Value = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
    assert_eq!(
        set,
        json!([{"op": "replace", "path": "/data/apiServer", "value": ""}])
    );

    let mounts: Vec<VolumeMount> = container.volume_mounts.unwrap();
    // kube-proxy's own counts where there is one.
    let folders = ["/var/lib/kube-proxy", "/etc/proxy-agent"];
    for (volume, folder) in ["kube-proxy", "config"].into_iter().zip(folders) {
        let mount = mounts.iter().find(|mount| mount.name == volume).unwrap();
        assert_eq!(mount.mount_path, folder);
        assert_eq!(mount.read_only, Some(true));
    }
    let files = args.iter().filter_map(|it| it.strip_prefix("--config="));
    let wanted = folders.map(|folder| format!("{folder}/config.conf"));
    assert!(files.eq(wanted.iter()));
}

#[test]
fn the_configuration_of_a_kube_proxy_need_not_be_there() {
    let volumes = pod().volumes.unwrap();
    let config_map = |name: &str| {
        let volume = volumes.iter().find(|volume| volume.name == name);
        let map = volume.unwrap().config_map.clone().unwrap();
        assert_eq!(map.items, None);
        (map.name, map.optional)
    };
    assert_eq!(config_map("config"), ("proxy-agent".to_owned(), None));
    let kube_proxys = ("kube-proxy".to_owned(), Some(true));
    assert_eq!(config_map("kube-proxy"), kube_proxys);
}

#[test]
fn the_configuration_spells_out_the_defaults() {
    let config: ConfigMap = only("base/configmap.yaml");
    let data = config.data.unwrap();
    assert_eq!(
        data.keys().collect::<Vec<_>>(),
        ["apiServer", "config.conf"]
    );
    assert_eq!(data["apiServer"], "");
    let parsed = parse(&data["config.conf"], Path::new("config.conf")).unwrap();
    assert_eq!(parsed.settings, Settings::default());
    assert_eq!(parsed.ignored, []);
}

/// What it removes is what the agent has left: with the same rights, and no more.
#[test]
fn the_clean_up_has_the_agents_rights_and_then_none() {
    let daemon_set: DaemonSet = only("cleanup/daemonset.yaml");
    let spec = daemon_set.spec.unwrap();
    let labels = spec.template.metadata.unwrap().labels;
    assert_eq!(spec.selector.match_labels, labels);
    // Not those of the agent, whose DaemonSet would take these Pods for its own.
    let agent: DaemonSet = only("base/daemonset.yaml");
    assert_ne!(agent.spec.unwrap().selector.match_labels, labels);

    let clean_up = spec.template.spec.unwrap();
    let agent = pod();
    assert_eq!(clean_up.host_network, agent.host_network);
    assert_eq!(clean_up.tolerations, agent.tolerations);
    assert_eq!(clean_up.affinity, agent.affinity);
    assert_eq!(clean_up.automount_service_account_token, Some(false));
    let [init] = clean_up.init_containers.unwrap().try_into().unwrap();
    let [done] = clean_up.containers.try_into().unwrap();
    let agent = container();
    assert_eq!(init.security_context, agent.security_context);
    let mounts = agent.volume_mounts.unwrap();
    let bpffs = mounts.into_iter().filter(|mount| mount.name == "bpffs");
    assert_eq!(init.volume_mounts.unwrap(), bpffs.collect::<Vec<_>>());
    let context = done.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.capabilities.unwrap().add, None);
    assert_eq!(done.volume_mounts, None);
    for image in [init.image, done.image] {
        assert_eq!(image, agent.image);
    }
}

/// What the agent would lack, it lacks; and it is of no use to anybody else.
#[test]
fn the_check_has_the_agents_rights_and_none_at_the_api_server() {
    let job: Job = only("check/job.yaml");
    assert_eq!(resources("check").len(), 1);
    let check = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(check.automount_service_account_token, Some(false));
    assert_eq!(check.restart_policy.as_deref(), Some("Never"));
    let agent = pod();
    assert_eq!(check.host_network, agent.host_network);
    assert_eq!(check.tolerations, agent.tolerations);
    let nodes = |pod: &PodSpec| pod.affinity.clone().unwrap().node_affinity;
    assert_eq!(nodes(&check), nodes(&agent));
    let [of_check] = check.containers.try_into().unwrap();
    let agent = container();
    assert_eq!(of_check.image, agent.image);
    assert_eq!(of_check.security_context, agent.security_context);
    let agents: Vec<_> = agent.volume_mounts.unwrap();
    for mount in of_check.volume_mounts.unwrap() {
        assert_eq!(mount.read_only, Some(true), "{}", mount.name);
        let agents = agents.iter().find(|it| it.name == mount.name).unwrap();
        assert_eq!(mount.mount_path, agents.mount_path);
    }
    if let Some(text) = kustomize(&folder().join("check")) {
        let _: Job = strictly(&serde_saphyr::from_str(&text).unwrap());
    }
}
