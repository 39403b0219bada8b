//! One agent takes over from another: load balancers that ask whether the node serves are
//! answered all the while.

use std::io::Read as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, addresses};
use serde_json::Value;

use super::{End, Lasting};
use crate::telling::probe;
use crate::world::agent_program;

/// Asks each of the addresses and ports again and again, by a new connection each time, until
/// its standard input ends; prints how many answers there were, and those that were not 200.
const ASK: &str = r#"
import http.client, json, select, sys
count, failed = 0, []
print("asks", flush=True)
while not select.select([sys.stdin], [], [], 0.005)[0]:
    for address, port in zip(sys.argv[1::2], sys.argv[2::2]):
        try:
            connection = http.client.HTTPConnection(address, int(port), timeout=10)
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
            connection.close()
        except OSError as error:
            status = repr(error)
        count += 1
        if status != 200:
            failed.append([port, status])
print(json.dumps({"count": count, "failed": failed}))
"#;

const HEALTH: u16 = 10256;
/// That of the Service `edge`.
const EDGE_CHECK: u16 = 30082;

#[test]
fn load_balancers_see_no_gap_when_an_agent_takes_over() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    let folder = it.world.cluster.directory.path().to_owned();
    let socket = |name: &str| folder.join(name).display().to_string();
    it.arguments = vec![format!("--probe-socket={}", socket("first.sock"))];
    it.start()?;
    it.scale("edge", &[(1, 1)])?;

    let mut arguments = Vec::new();
    for family in Family::BOTH {
        for port in [HEALTH, EDGE_CHECK] {
            let node = addresses::node(1).of(family).to_string();
            arguments.extend([node, port.to_string()]);
        }
    }
    let mut asking = it.world.cluster.client.command("python3");
    asking.args(["-u", "-c", ASK]).args(arguments);
    let mut asking = asking
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = asking.stdout.take().context("its output")?;
    let mut begun = [0; 5];
    told.read_exact(&mut begun)?;

    it.arguments = vec![format!("--probe-socket={}", socket("second.sock"))];
    let second = it.spawn()?;
    second.wait_for(0, |event| {
        let message = event["fields"]["message"].as_str();
        message.is_some_and(|it| it.contains("another agent runs"))
    })?;
    let program = agent_program();
    let standby = probe(&program, "ready", &socket("second.sock"))?;
    ensure!(standby == (true, "standby\n".to_owned()), "{standby:?}");

    let first = it.agent.take().context("an agent runs")?;
    let status = first.stop()?;
    ensure!(status.success(), "{status}");
    second.wait_attached("eth0")?;
    let ready = probe(&program, "ready", &socket("second.sock"))?;
    ensure!(ready == (true, "ready\n".to_owned()), "{ready:?}");
    it.agent = Some(second);

    drop(asking.stdin.take());
    let mut text = String::new();
    told.read_to_string(&mut text)?;
    asking.wait()?;
    let answers: Value = serde_json::from_str(text.trim())?;
    ensure!(answers["failed"] == Value::Array(Vec::new()), "{answers}");
    ensure!(answers["count"].as_u64() > Some(100), "{answers}");
    Ok(())
}

/// What an agent has left that was killed goes on serving. The next one says so before it has
/// loaded its own programs, which takes a second or more.
#[test]
fn load_balancers_are_answered_while_an_agent_loads() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.end(End::Killed)?;
    let is_answered = || -> Result<bool> {
        let node = addresses::node(1).of(Family::V4);
        let mut curl = it.world.cluster.client.command("curl");
        curl.args(["--silent", "--fail", "--max-time", "10"]);
        let output = curl
            .arg(format!("http://{node}:{HEALTH}/healthz"))
            .output()?;
        Ok(output.status.success())
    };
    ensure!(!is_answered()?, "nobody is there");
    let next = it.spawn()?;
    next.wait_for(0, |event| event["fields"]["what"] == "health")?;
    ensure!(is_answered()?, "{:?}", next.log());
    let has_loaded = next.log().iter().any(|line| line.contains("\"started\""));
    ensure!(!has_loaded, "{:?}", next.log());

    // Until it knows the node, it goes on; then that decides.
    next.wait_programmed()?;
    next.wait_attached("eth0")?;
    ensure!(is_answered()?, "{:?}", next.log());
    it.agent = Some(next);
    Ok(())
}
