//! What an operator sees with the agent's commands, while it runs and when it does not.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use proxy_ebpf::layout::VERSION;
use proxy_tests::lab::{Family, Namespace, addresses, client};
use serde_json::Value;

use crate::restarts::{End, Lasting};
use crate::world::{WEB_NODE_PORT, agent_program, cluster_ip};

/// What a command prints, and how it ends.
struct Answer {
    status: i32,
    text: String,
    error: String,
}

impl Answer {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }

    /// The rows of a list.
    fn items(&self) -> Result<Vec<Value>> {
        let document = self.json()?;
        assert_eq!(document["apiVersion"], "proxy-agent/v1");
        Ok(document["items"].as_array().context("no list")?.clone())
    }
}

/// An operator on the first node.
struct Operator<'a> {
    it: &'a Lasting,
    socket: &'a str,
}

impl Operator<'_> {
    fn run(&self, before: &[&str], arguments: &[&str]) -> Result<Answer> {
        let node = &self.it.world.cluster.nodes[0].namespace;
        let program = agent_program();
        let (first, rest) = match before {
            [] => (program.into_os_string(), Vec::new()),
            [first, rest @ ..] => {
                let mut rest: Vec<_> = rest.iter().map(Into::into).collect();
                rest.push(program.into_os_string());
                (first.into(), rest)
            }
        };
        let mut command = node.command_with(Some(&self.it.bpffs), first);
        command.args(rest).args(arguments);
        if ["status", "verify"].contains(&arguments[0]) {
            command.args(["--socket", self.socket]);
        }
        let output = command.output()?;
        let answer = Answer {
            status: output.status.code().context("a signal")?,
            text: String::from_utf8(output.stdout)?,
            error: String::from_utf8(output.stderr)?,
        };
        let line = arguments.join(" ");
        println!("$ proxy-agent {line}\n{}{}", answer.text, answer.error);
        Ok(answer)
    }

    fn ask(&self, arguments: &[&str]) -> Result<Answer> {
        self.run(&[], arguments)
    }

    /// Asks what has an answer.
    fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let answer = self.ask(&[arguments, &["-o", "json"]].concat())?;
        ensure!(answer.status == 0, "{}: {}", answer.status, answer.error);
        answer.items()
    }

    /// Asks what cannot be answered.
    fn refused(&self, arguments: &[&str], because: &str) -> Result<()> {
        let answer = self.ask(arguments)?;
        ensure!(answer.status == 2, "{arguments:?}: {}", answer.status);
        ensure!(answer.error.contains(because), "{}", answer.error);
        Ok(())
    }
}

const LISTS: [&str; 4] = ["services", "backends", "flows", "affinity"];

/// Every command, while a connection is open.
fn sees_what_is_there(it: &Operator<'_>, connection: &TcpStream) -> Result<()> {
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80).to_string();
    let services = it.list(&["services", "--service", "default/web", "--family", "ipv4"])?;
    let frontends = services[0]["frontends"].to_string();
    assert!(frontends.contains("10.96.0.10") && frontends.contains("NodePort"));
    let backends = it.list(&["backends", "--service", "default/web:http"])?;
    let endpoints: Vec<_> = backends.iter().map(|it| it["endpoint"].clone()).collect();
    assert!(!endpoints.is_empty());

    let from = connection.local_addr()?.to_string();
    let of_client = [
        "flows",
        "--address",
        &connection.local_addr()?.ip().to_string(),
    ];
    let flows = it.list(&of_client)?;
    let flow = flows.iter().find(|it| it["client"] == *from);
    let flow = flow.with_context(|| format!("no flow of {from} in {flows:?}"))?;
    assert_eq!(flow["service"]["name"], "web");
    assert_eq!(flow["state"], "established");
    assert!(endpoints.contains(&flow["endpoint"]), "{flow}");

    let answer = it.ask(&["explain", &from, &format!("{web}/tcp"), "-o", "json"])?;
    assert_eq!(answer.status, 0, "{}", answer.error);
    let explanation = answer.json()?;
    assert_eq!(explanation["frontend"]["service"]["name"], "web");
    assert_eq!(explanation["flow"]["endpoint"], flow["endpoint"]);
    let of_pod = &explanation["paths"][0];
    assert_eq!(
        (&of_pod["path"], &of_pod["verdict"]),
        (&"pod-packet".into(), &"translate".into())
    );
    assert_eq!(of_pod["destination"], flow["endpoint"]);

    for command in LISTS {
        let answer = it.ask(&[command])?;
        let has_rows = command != "affinity";
        assert_eq!(answer.status, i32::from(!has_rows), "{command}");
        assert!(answer.text.lines().all(|line| line.chars().count() <= 120));
        assert_eq!(it.ask(&[command, "--service", "no/such"])?.status, 1);
    }
    assert_eq!(it.ask(&["explain", &from, &web])?.status, 0);
    assert_eq!(it.ask(&["explain", &from, "192.0.2.99:80"])?.status, 1);
    Ok(())
}

/// What the agent says of itself, and what it mends.
fn agent_answers(it: &Operator<'_>) -> Result<()> {
    let status = it.ask(&["status"])?;
    assert_eq!(status.status, 0, "{}{}", status.text, status.error);
    for part in ["ready", "eth0", "tcx", "FLOWS_V4", "in sync since"] {
        assert!(status.text.contains(part), "{part}: {}", status.text);
    }
    assert!(status.text.lines().all(|line| line.chars().count() <= 120));
    let status = it.ask(&["status", "-o", "json"])?.json()?;
    assert_eq!(status["condition"], "ready");
    assert_eq!(status["services"], 3);

    assert_eq!(it.ask(&["verify"])?.status, 0);
    let name = format!("/sys/fs/bpf/proxy-agent/maps-{VERSION}/SERVICE_NAMES");
    let delete = ["map", "delete", "pinned", &name, "key", "0", "0", "0", "0"];
    it.it.bpftool(&delete)?;
    let differs = it.ask(&["verify"])?;
    assert_eq!(differs.status, 1, "{}", differs.error);
    assert!(differs.text.contains("name of Service port 0"));
    assert_eq!(it.ask(&["verify"])?.status, 0, "it was repaired");
    Ok(())
}

/// The first packets of connections from these ports go where `explain` has said.
fn explain_agrees(
    it: &Operator<'_>,
    path: &str,
    (client, from): (&Namespace, IpAddr),
    to: SocketAddr,
) -> Result<()> {
    // A port that was used just now is not free, of whatever family.
    let first: u16 = if from.is_ipv4() { 20_000 } else { 21_000 };
    for port in first..first + 5 {
        let source = SocketAddr::new(from, port).to_string();
        let answer = it.ask(&["explain", &source, &to.to_string(), "-o", "json"])?;
        let explanation = answer.json()?;
        assert_eq!(explanation["flow"], Value::Null);
        let paths = explanation["paths"].as_array().context("no paths")?;
        let of_path = paths.iter().find(|it| it["path"] == path);
        let endpoint = of_path.and_then(|it| it["destination"].as_str());
        let endpoint: SocketAddr = endpoint.context("no destination")?.parse()?;
        let mut pods = it.it.world.cluster.pods();
        let pod = pods.find(|pod| {
            Family::BOTH
                .map(|it| pod.addresses.of(it))
                .contains(&endpoint.ip())
        });
        let pod = pod.with_context(|| format!("{endpoint} is no Pod's"))?;

        let mut curl = client.command("curl");
        curl.args(["-g", "--silent", "--max-time", "3", "--noproxy", "*"]);
        curl.args(["--local-port", &port.to_string(), &format!("http://{to}/")]);
        let output = curl.output()?;
        let answered = String::from_utf8_lossy(&output.stdout);
        assert_eq!(answered.trim(), pod.name, "{source} to {to}");
    }
    Ok(())
}

#[test]
fn an_operator_sees_what_the_kernel_holds_whether_the_agent_runs_or_not() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    let socket = it.world.cluster.directory.path().join("probe.sock");
    let socket = socket.to_string_lossy().into_owned();
    it.arguments = vec!["--probe-socket".to_owned(), socket.clone()];
    it.start()?;
    let pod = &it.world.cluster.pod(1, 2).namespace;
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    client::http(pod, web)?;
    let outside = &it.world.cluster.client;
    client::http(outside, it.world.node_port(1, Family::V4, WEB_NODE_PORT))?;
    let connection = pod.run(|| TcpStream::connect(web))??;

    let operator = Operator {
        it: &it,
        socket: &socket,
    };
    sees_what_is_there(&operator, &connection)?;
    agent_answers(&operator)?;
    for family in Family::BOTH {
        let from = it.world.cluster.pod(1, 2).addresses.of(family);
        let web = SocketAddr::new(cluster_ip("web", family), 80);
        explain_agrees(&operator, "pod-packet", (pod, from), web)?;
        let from = addresses::client().of(family);
        let node_port = it.world.node_port(1, family, WEB_NODE_PORT);
        explain_agrees(&operator, "outside-packet", (outside, from), node_port)?;
    }

    it.end(End::Killed)?;
    let operator = Operator {
        it: &it,
        socket: &socket,
    };
    sees_what_is_there(&operator, &connection)?;
    let status = operator.ask(&["status"])?;
    assert_eq!(status.status, 1, "{}", status.error);
    assert!(status.text.contains("not running"), "{}", status.text);
    operator.refused(&["verify"], "no answer at")?;

    let nobody = ["setpriv", "--reuid=65534", "--clear-groups"];
    let capable = operator.run(&nobody, &["services"])?;
    assert_eq!(capable.status, 2, "{}", capable.text);
    assert!(capable.error.contains("CAP_"), "{}", capable.error);

    let incapable = operator.run(&nobody, &["trace"])?;
    assert_eq!(incapable.status, 2, "{}", incapable.text);
    assert!(incapable.error.contains("CAP_"), "{}", incapable.error);

    let folder = it.bpffs.path().join("proxy-agent");
    let [own, other] = [VERSION, 4].map(|version| folder.join(format!("maps-{version}")));
    fs::rename(&own, &other)?;
    for command in LISTS {
        operator.refused(&[command], "layout version 4")?;
    }
    operator.refused(
        &["explain", "10.1.1.1", "10.96.0.10:80"],
        "layout version 4",
    )?;
    operator.refused(&["trace"], "layout version 4")?;
    operator.refused(&["status"], "layout version 4")?;
    fs::remove_dir_all(&folder)?;
    for command in LISTS {
        operator.refused(&[command], "is the agent installed")?;
    }
    operator.refused(&["trace"], "is the agent installed")?;
    operator.refused(&["top"], "this is none")?;
    operator.refused(&["status"], "no agent runs")?;
    operator.refused(&["services", "--bpffs", "/tmp"], "no BPF file system")?;
    Ok(())
}
