//! The agent on a node, and the API server elsewhere in the lab's network.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{
    Agent, Cluster, Family, Load, Manifests, Options, addresses, client, server,
};
use serde_json::Value;

use crate::server::{Offer, Server};

const OFFER: Offer = Offer {
    streaming_lists: true,
};

/// The objects of a manifest.
fn objects(manifests: &Manifests, name: &str) -> Result<Vec<Value>> {
    let text = manifests.read(name)?;
    text.split("\n---\n")
        .map(|document| Ok(serde_saphyr::from_str(document)?))
        .collect()
}

/// Sends a manifest's objects to the server, as `kubectl apply` does.
fn apply(server: &Server, manifests: &Manifests, names: &[&str]) -> Result<()> {
    for name in names {
        for object in objects(manifests, name)? {
            server.apply(object);
        }
    }
    Ok(())
}

/// Everything in the namespace of the client outside, where the API server listens.
async fn outlives_its_api_server(cluster: &Cluster, manifests: &Manifests) -> Result<()> {
    let mut api = Server::start_on(addresses::client().of(Family::V4), OFFER).await?;
    let examples = ["nodes", "web", "web-endpoints", "dns", "dns-endpoints"];
    apply(&api, manifests, &examples)?;
    let program = std::env::var_os("PROXY_AGENT_BIN").context("run by `cargo xtask test`")?;
    let url = api.url();
    // Blocking calls beside the server: it has this thread to itself otherwise.
    let agent = tokio::task::block_in_place(|| {
        let agent = Agent::start_at(Path::new(&program), &cluster.nodes[0], &url)?;
        agent.wait_programmed()?;
        agent.wait_attached("veth3").map(|_| agent)
    })?;
    let frontend: SocketAddr = "10.96.0.10:80".parse()?;
    let load = Load::start(&cluster.pod(1, 3).namespace, frontend, 2)?;
    let wait = |load: &Load| {
        tokio::task::block_in_place(|| load.wait_for_requests(30, Duration::from_secs(20)))
    };
    wait(&load)?;

    // The server goes; what is served stays. What changes meanwhile is caught up
    // with, though the server has forgotten the history.
    api.set_down(true);
    wait(&load)?;
    manifests.set_endpoints("web", &[cluster.pod(2, 2)])?;
    apply(&api, manifests, &["web-endpoints"])?;
    api.delete("Service", ("default", "dns"));
    api.restart().await?;
    api.set_down(false);
    // The two watches come back each in its own time. Only the new set has this
    // pod, so its first answer says that the set is in place.
    let inside = &cluster.pod(1, 3).namespace;
    tokio::task::block_in_place(|| -> Result<()> {
        agent
            .wait_for(0, |event| event["fields"]["served"] == 2)
            .context("the Service that vanished unseen is gone: the ports of web are left")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while client::http(inside, frontend)? != "pod-2-2" {
            ensure!(Instant::now() < deadline, "the new endpoints never came");
        }
        Ok(())
    })?;
    let phase = load.next_phase();
    wait(&load)?;
    let phases = tokio::task::block_in_place(|| load.stop())?;
    let failures: Vec<_> = phases.iter().flat_map(|phase| &phase.failures).collect();
    assert_eq!(failures, Vec::<&String>::new());
    let after: Vec<_> = phases[phase].answers.keys().collect();
    assert_eq!(after, ["pod-2-2"]);
    Ok(())
}

#[test]
fn an_agent_serves_what_the_api_server_has_and_outlives_it() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    let _http = server::start_http(cluster.directory.path(), cluster.pods())?;
    cluster.client.run(|| {
        // Threads of the runtime begin in the namespace of the thread that makes it.
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(outlives_its_api_server(&cluster, &manifests))
    })?
}
