//! The commands in the documents for operators, as they are written there.

mod commands;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::lab::{Family, Process, client};

use self::commands::{NamedCommand, commands, sections};
use crate::restarts::Lasting;
use crate::world::{agent_program, cluster_ip};

const PATIENCE: Duration = Duration::from_secs(10);

const DOCUMENTS: [&str; 2] = ["docs/OPERATIONS.md", "docs/CLI.md"];

/// Programs whose commands are looked at in the text as well.
const PROGRAMS: [&str; 3] = ["proxy-agent", "kubectl", "helm"];

/// What is not run, and why: commands that begin so.
const NOT_RUN: [(&str, &str); 4] = [
    (
        "proxy-agent top",
        "needs a terminal; the tests of `terminal` have one",
    ),
    (
        "kubeadm init",
        "installs a cluster; its flags are not this project's",
    ),
    (
        "helm template",
        "is a word for what the test of the chart does",
    ),
    (
        "helm install",
        "needs a cluster; what it names is looked at",
    ),
];

/// What the documents leave to the reader, and what stands for it in the lab.
fn in_the_lab(word: &str, lab: &Lab) -> String {
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let folder = lab.folder.display().to_string();
    let words: [(&str, String); 9] = [
        ("SRC", lab.client.ip().to_string()),
        ("DST:PORT/PROTO", format!("{web}/tcp")),
        ("ADDRESS:PORT/PROTO", format!("{web}/tcp")),
        ("NAMESPACE/NAME", "default/web".to_owned()),
        ("ADDRESS", web.ip().to_string()),
        ("SHELL", "bash".to_owned()),
        ("DIR", folder),
        ("10.244.1.11:54198", lab.client.to_string()),
        (
            "--socket=/run/proxy-agent/probe.sock",
            format!("--socket={}", lab.socket),
        ),
    ];
    let found = words.into_iter().find(|(name, _)| *name == word);
    found.map_or_else(|| word.to_owned(), |(_, value)| value)
}

/// A node on which an agent runs, and a connection that it translates.
struct Lab {
    it: Lasting,
    socket: String,
    folder: PathBuf,
    client: SocketAddr,
}

/// The root of the sources.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    /// It has run beside an agent.
    Run,
    /// It has got as far as it does without a cluster.
    Parsed,
    Not(&'static str),
}

/// Runs a command as far as the lab can.
fn run(command: &NamedCommand, lab: &Lab) -> Result<Done> {
    let text = command.text.as_str();
    if let Some((_, why)) = NOT_RUN.iter().find(|(begin, _)| text.starts_with(begin)) {
        named_files_are_there(text)?;
        return Ok(Done::Not(why));
    }
    // In a cluster it runs in the agent's Pod.
    if let Some((kubectl, own)) = text.split_once(" -- /") {
        named_objects_are_there(kubectl)?;
        run_kubectl(&format!("{kubectl} -- /{own}"), lab)?;
        return run_own(own, lab);
    }
    if text.starts_with("proxy-agent ") {
        return run_own(text, lab);
    }
    let kubectl = text
        .strip_prefix("POD=$(")
        .and_then(|it| it.strip_suffix(')'));
    let kubectl = kubectl.unwrap_or(text);
    if kubectl.starts_with("kubectl ") {
        named_files_are_there(text)?;
        named_objects_are_there(kubectl)?;
        return run_kubectl(kubectl, lab);
    }
    bail!("nothing is known of it: a test that runs it is needed, or a reason why not")
}

/// Runs one of the agent's own commands: 0 and 1 are answers, 2 is that there is none, or no such
/// option.
fn run_own(text: &str, lab: &Lab) -> Result<Done> {
    let (own, filter) = match text.split_once(" | ") {
        Some((own, filter)) => (own, Some(filter)),
        None => (text, None),
    };
    let mut arguments: Vec<_> = own
        .split(' ')
        .skip(1)
        .map(|it| in_the_lab(it, lab))
        .collect();
    let asks_agent = ["status", "verify"].contains(&arguments[0].as_str());
    let is_probe = arguments[0] == "probe" && !own.contains("--socket");
    if asks_agent || is_probe {
        arguments.push(format!("--socket={}", lab.socket));
    }
    let node = &lab.it.world.cluster.nodes[0].namespace;
    let mut process = node.command_with(Some(&lab.it.bpffs), agent_program());
    process.args(&arguments);
    if arguments[0] == "trace" {
        let mut trace = Process::spawn(text, process)?;
        trace.wait_for_line(PATIENCE, |line| line.starts_with("Listening"))?;
        trace.signal(libc::SIGINT)?;
        let status = trace.wait(PATIENCE)?;
        ensure!(status.success(), "{status}: {:?}", trace.lines());
    } else {
        let output = process.stdin(Stdio::null()).output()?;
        let status = output.status.code().context("a signal")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!([0, 1].contains(&status), "status {status}: {error}");
        let is_answer = !output.stdout.is_empty() || ["probe", "man"].contains(&&*arguments[0]);
        ensure!(is_answer || status == 1, "status {status} and no answer");
    }
    if let Some(filter) = filter {
        takes_an_event(filter)?;
    }
    Ok(Done::Run)
}

/// A filter of `jq` takes a document of `trace`.
fn takes_an_event(filter: &str) -> Result<()> {
    let event = r#"{"kind": "TraceEvent", "source": "192.0.2.1:1000"}"#;
    let filter = filter.replace("ADDRESS", "192.0.2.1");
    let script = format!("echo '{event}' | {filter}");
    if Command::new("jq").arg("--version").output().is_err() {
        println!("no jq: its filter is not run");
        return Ok(());
    }
    let output = Command::new("sh").args(["-c", &script]).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{error}");
    ensure!(!output.stdout.is_empty(), "it has filtered everything");
    Ok(())
}

/// A command of kubectl gets as far as to a server that is not there: program, flags and files
/// are as it takes them.
fn run_kubectl(text: &str, lab: &Lab) -> Result<Done> {
    let text = text.replace("$POD", "pod/proxy-agent-x");
    let text = text.replace("NODE", "node1");
    // What has no object here names none there.
    let text = match text.as_str() {
        "kubectl kustomize" => "kubectl kustomize manifests/".to_owned(),
        "kubectl rollout undo" => "kubectl rollout undo daemonset/proxy-agent".to_owned(),
        _ => text,
    };
    let (node, cluster) = (&lab.it.world.cluster.nodes[0].namespace, "127.0.0.1:1");
    let mut words = text.split(' ').filter(|it| !it.is_empty());
    let program = words.next().context("no program")?;
    if Command::new(program)
        .arg("version")
        .arg("--client")
        .output()
        .is_err()
    {
        return Ok(Done::Not("there is no kubectl"));
    }
    let mut command = node.command(program);
    command
        .arg(format!("--server=http://{cluster}"))
        .args(words);
    command.env("KUBECONFIG", "/dev/null").current_dir(root());
    let output = command.stdin(Stdio::null()).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let is_done = output.status.success()
        || error.contains("was refused")
        || error.contains("connection refused");
    ensure!(is_done, "{}: {error}", output.status);
    Ok(Done::Parsed)
}

/// The files of this project that a command names.
fn named_files_are_there(text: &str) -> Result<()> {
    let named = text.split(' ').filter(|it| it.starts_with("manifests/"));
    for name in named {
        let folder = root().join(name);
        let kinds = ["kustomization.yaml", "Chart.yaml"];
        let is_there = kinds.iter().any(|kind| folder.join(kind).exists());
        ensure!(is_there, "there is nothing to apply in {name}");
    }
    Ok(())
}

/// The objects, containers and labels that a command names are those of the manifests.
fn named_objects_are_there(text: &str) -> Result<()> {
    let manifests = ["manifests/base/daemonset.yaml", "manifests/check/job.yaml"];
    let manifests = manifests.map(|name| fs::read_to_string(root().join(name)));
    let [agent, check] = manifests;
    let manifests = agent? + &check?;
    let words: Vec<_> = text.split(' ').collect();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |it| words[it]);
        let object = ["daemonset/", "ds/", "job/"];
        let object = object.iter().find_map(|kind| word.strip_prefix(kind));
        let line = match (before, object) {
            ("-c", _) => format!("name: {word}"),
            ("-l", _) => word.replace('=', ": "),
            (_, Some(object)) => format!("name: {object}"),
            _ => continue,
        };
        let mut lines = manifests
            .lines()
            .map(|it| it.trim_start_matches([' ', '-']));
        ensure!(lines.any(|it| it == line), "no manifest has {line:?}");
    }
    Ok(())
}

#[test]
fn the_commands_in_the_documents_run() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    let folder = it.world.cluster.directory.path().to_owned();
    let socket = folder.join("probe.sock").display().to_string();
    it.arguments = vec!["--probe-socket".to_owned(), socket.clone()];
    it.start()?;
    let world = std::sync::Arc::clone(&it.world);
    let pod = &world.cluster.pod(1, 2).namespace;
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    client::http(pod, web)?;
    let connection = pod.run(|| std::net::TcpStream::connect(web))??;
    let client = connection.local_addr()?;
    let lab = Lab {
        it,
        socket,
        folder: folder.join("man"),
        client,
    };
    fs::create_dir(&lab.folder)?;

    let mut known = BTreeMap::new();
    let mut mistakes = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document))?;
        for command in commands(&text, &PROGRAMS) {
            if known.contains_key(&command.text) {
                continue;
            }
            let at = format!("{document}:{}: {}", command.line, command.text);
            let done = run(&command, &lab);
            match &done {
                Ok(done) => println!("{at}\n    {done:?}"),
                Err(error) => mistakes.push(format!("{at}\n    {error:#}")),
            }
            known.insert(command.text, done.ok());
        }
    }
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    let run = known.values().filter(|it| **it == Some(Done::Run));
    ensure!(run.count() > 15, "few commands were found: {known:?}");
    Ok(())
}

/// Where a document says what to do about a symptom, it has a command that shows it.
#[test]
fn each_symptom_has_a_command_that_shows_it() -> Result<()> {
    let text = fs::read_to_string(root().join("docs/OPERATIONS.md"))?;
    let symptoms = sections(&text, "\n## Troubleshoot", "\n### ");
    ensure!(symptoms.len() > 5, "{symptoms:?}");
    for symptom in symptoms {
        let has_command = |text: &str| {
            let found = commands(text, &PROGRAMS);
            found.iter().any(|it| !it.text.starts_with("helm"))
        };
        ensure!(has_command(symptom), "no command: {symptom}");
        // A table of symptoms has one in each row.
        let (_, table) = symptom.split_once("| symptom |").unwrap_or_default();
        for row in table.lines().skip(2).take_while(|it| it.starts_with('|')) {
            ensure!(has_command(row), "no command: {row}");
        }
    }
    Ok(())
}
