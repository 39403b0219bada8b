//! The agent on a node, and the API server elsewhere in the lab's network.
#![expect(clippy::float_cmp, reason = "what is counted is whole")]

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::apiserver::{self, ApiServer, Expiry, Health};
use proxy_tests::lab::client::{self, Transport};
use proxy_tests::lab::{
    Agent, Cluster, Family, Load, Manifests, Options, Process, addresses, server,
};
use serde_json::{Value, json};

use crate::metrics::{metrics, value};
use crate::world::{agent_program, cluster_ip, print_log};

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent on node1, and the API server that it follows at the client outside.
struct Setup {
    agent: Agent,
    api: ApiServer,
    manifests: Manifests,
    _http: Vec<Process>,
    cluster: Cluster,
}

impl Setup {
    /// Starts both, with the examples `web` and `dns`.
    fn new(arguments: &[&str]) -> Result<Self> {
        let cluster = Cluster::new(Options::default())?;
        let manifests = Manifests::copy_examples(cluster.directory.path())?;
        let http = server::start_http(cluster.directory.path(), cluster.pods())?;
        let options = apiserver::Options {
            ip: addresses::client().of(Family::V4),
            ..apiserver::Options::default()
        };
        let api = cluster.client.run(|| ApiServer::start(options))??;
        for name in ["nodes", "web", "web-endpoints", "dns", "dns-endpoints"] {
            apply(&api, &manifests, name)?;
        }
        let node = &cluster.nodes[0];
        let agent = Agent::start_at(&agent_program(), node, &api.url(), arguments)?;
        let setup = Self {
            agent,
            api,
            manifests,
            _http: http,
            cluster,
        };
        setup.agent.wait_programmed()?;
        setup.agent.wait_attached("veth3")?;
        // A veth as well, and never taken for a Pod's: its object comes first.
        assert_eq!(
            setup.agent.wait_attached("eth0")?["fields"]["role"],
            "Outside"
        );
        Ok(setup)
    }

    fn apply(&self, name: &str) -> Result<()> {
        apply(&self.api, &self.manifests, name)
    }

    /// Makes one pod the endpoint of `web`.
    fn set_web(&self, (node, pod): (usize, usize)) -> Result<()> {
        let pods = [self.cluster.pod(node, pod)];
        self.manifests.set_endpoints("web", &pods)?;
        self.apply("web-endpoints")
    }

    /// Asks `web` from a pod of the node.
    fn ask(&self) -> Result<String> {
        client::http(&self.cluster.pod(1, 3).namespace, web())
    }

    /// Asks until a pod answers that was no endpoint before: then the new set is there.
    fn until_answered_by(&self, pod: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.ask()? != pod {
            ensure!(
                Instant::now() < deadline,
                "{pod} never came to be an endpoint"
            );
        }
        Ok(())
    }

    /// Clients that ask `web` without a pause.
    fn load(&self) -> Result<Load> {
        let load = Load::start(&self.cluster.pod(1, 3).namespace, web(), 2)?;
        load.wait_for_requests(30, PATIENCE)?;
        Ok(load)
    }

    /// Waits for an Event, by its reason and the name of its object.
    fn event(&self, reason: &str, name: &str) -> Result<Value> {
        let is_wanted =
            |event: &Value| event["reason"] == reason && event["regarding"]["name"] == name;
        let events = self
            .api
            .wait_for_objects(PATIENCE, "Event", |events| events.iter().any(is_wanted))?;
        Ok(events.into_iter().find(is_wanted).unwrap())
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        print_log(&self.agent);
    }
}

/// Sends a manifest's objects to the server, as `kubectl apply` does.
fn apply(api: &ApiServer, manifests: &Manifests, name: &str) -> Result<()> {
    objects(manifests, name)?
        .into_iter()
        .for_each(|object| api.apply(object));
    Ok(())
}

fn objects(manifests: &Manifests, name: &str) -> Result<Vec<Value>> {
    let text = manifests.read(name)?;
    let documents = text.split("\n---\n");
    documents
        .map(|document| Ok(serde_saphyr::from_str(document)?))
        .collect()
}

fn web() -> SocketAddr {
    SocketAddr::new(cluster_ip("web", Family::V4), 80)
}

/// Ends a load whose last phase should have had these answers only, and no failures in
/// any phase.
fn assert_undisturbed(load: Load, last: &[&str]) -> Result<()> {
    load.next_phase();
    load.wait_for_requests(30, PATIENCE)?;
    let phases = load.stop()?;
    let failures: Vec<_> = phases.iter().flat_map(|phase| &phase.failures).collect();
    assert_eq!(failures, Vec::<&String>::new());
    let answers = phases.last().map(|phase| phase.answers.keys());
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    assert_eq!(answers, last);
    Ok(())
}

#[test]
fn a_server_that_is_killed_disturbs_no_client_and_is_followed_after_its_restart() -> Result<()> {
    let mut setup = Setup::new(&[])?;
    let load = setup.load()?;
    for (pod, name) in [((1, 2), "pod-1-2"), ((2, 3), "pod-2-3")] {
        setup.api.stop();
        load.next_phase();
        load.wait_for_requests(30, PATIENCE)?;
        setup.set_web(pod)?;
        setup.api.resume()?;
        setup.until_answered_by(name)?;
    }
    assert_undisturbed(load, &["pod-2-3"])
}

/// The server is not to be had, and forgets meanwhile that Services and endpoints went.
fn forgotten_deletions_happen(expiry: Expiry) -> Result<()> {
    let setup = Setup::new(&[])?;
    let load = setup.load()?;
    setup.api.set_expiry(expiry);
    setup.api.set_health(Health::Refusing(503));
    setup.api.cut_streams();
    let asked = setup.api.requests().len();
    setup
        .api
        .wait_for_requests(PATIENCE, |seen| seen.len() >= asked + 4)?;
    let mark = setup.agent.mark();
    setup.api.delete("Service", "default", "dns");
    setup.set_web((2, 2))?;
    setup.api.compact();
    setup.api.set_health(Health::Well);
    // Two families of the one port of `web` are left.
    setup
        .agent
        .wait_for(mark, |event| event["fields"]["served"] == 2)?;
    setup.until_answered_by("pod-2-2")?;
    let inside = &setup.cluster.pod(1, 3).namespace;
    let dns = SocketAddr::new(cluster_ip("dns", Family::V4), 53);
    assert!(client::dns(inside, dns, Transport::Udp).is_err());
    assert_undisturbed(load, &["pod-2-2"])
}

#[test]
fn deletions_before_a_410_event_happen_and_nothing_else_is_disturbed() -> Result<()> {
    forgotten_deletions_happen(Expiry::Event)
}

#[test]
fn deletions_before_a_410_status_happen_and_nothing_else_is_disturbed() -> Result<()> {
    forgotten_deletions_happen(Expiry::Status)
}

#[test]
fn what_the_agent_cannot_do_is_told_at_the_object() -> Result<()> {
    let setup = Setup::new(&[])?;
    let starting = setup.event("Starting", "node1")?;
    assert_eq!(starting["regarding"]["kind"], "Node");
    assert_eq!(starting["type"], "Normal");

    let check = SocketAddr::new(addresses::node(1).of(Family::V4), 30082);
    let namespace = &setup.cluster.nodes[0].namespace;
    let _squatter = namespace.run(|| TcpListener::bind(check))??;
    let edge = setup.manifests.read("edge")?;
    let with_external_ip = edge.replace("spec:\n", "spec:\n  externalIPs: [198.51.100.7]\n");
    setup.manifests.write("edge", &with_external_ip)?;
    setup.apply("edge")?;
    let unheard = setup.event("FailedToStartServiceHealthcheck", "edge")?;
    let note = unheard["note"].as_str().unwrap();
    assert!(note.contains(&check.to_string()), "{note}");
    assert_eq!(unheard["type"], "Warning");
    let refused = setup.event("ExternalIpNotAllowed", "edge")?;
    let service = setup.api.objects("Service");
    let edge = service.iter().find(|it| it["metadata"]["name"] == "edge");
    assert_eq!(
        refused["regarding"]["uid"],
        edge.unwrap()["metadata"]["uid"]
    );
    assert_eq!(refused["reportingInstance"], "node1");
    Ok(())
}

#[test]
fn a_full_map_is_told_at_the_service_that_found_no_room() -> Result<()> {
    let setup = Setup::new(&["--map-slots", "20"])?;
    let pods: Vec<_> = setup.cluster.pods().collect();
    setup.manifests.set_endpoints("web", &pods)?;
    setup.apply("web-endpoints")?;
    let full = setup.event("MapFull", "web")?;
    assert!(full["note"].as_str().unwrap().contains("--map-slots"));
    // What was served before is served still.
    setup.ask()?;
    Ok(())
}

#[test]
fn the_age_of_endpoints_is_measured_from_their_annotation() -> Result<()> {
    let setup = Setup::new(&[])?;
    let node = &setup.cluster.nodes[0].namespace;
    let measured = || -> Result<[f64; 2]> {
        let metrics = metrics(node)?;
        let of = |part: &str| {
            let name = format!("kubeproxy_network_programming_duration_seconds_{part}");
            value(&metrics, &name, &[("ip_family", "IPv6")])
        };
        Ok([of("count")?, of("sum")?])
    };
    assert_eq!(
        measured()?,
        [0.0, 0.0],
        "what was there at the start is too old"
    );
    let now = Command::new("date").args(["-u", "+%FT%T.%NZ"]).output()?;
    let began = Instant::now();
    let pods = [setup.cluster.pod(2, 2)];
    setup.manifests.set_endpoints("web", &pods)?;
    for mut slice in objects(&setup.manifests, "web-endpoints")? {
        let trigger = String::from_utf8(now.stdout.clone())?;
        slice["metadata"]["annotations"] =
            json!({"endpoints.kubernetes.io/last-change-trigger-time": trigger.trim()});
        setup.api.apply(slice);
    }
    setup.until_answered_by("pod-2-2")?;
    // The other family may come a moment later.
    while measured()?[0] < 1.0 {
        ensure!(began.elapsed() < PATIENCE, "it was never measured");
    }
    let [count, sum] = measured()?;
    assert_eq!(count, 1.0);
    assert!(
        sum > 0.0 && sum < began.elapsed().as_secs_f64() + 0.1,
        "{sum}"
    );
    Ok(())
}
