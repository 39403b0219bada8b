//! Mistakes in manifests, and packets that are none.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::{Family, PodNetwork, client};

use crate::world::{World, cluster_ip};

#[test]
fn a_broken_file_is_named_and_changes_nothing_until_it_is_mended() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let whole = world.manifests.read("web")?;
    let mark = world.agents[0].mark();
    world.manifests.write(
        "web",
        "apiVersion: v1\nkind: Service\nmetadata: {name: [}\n",
    )?;
    let event = world.agents[0].wait_for(mark, |event| {
        let message = event["fields"]["message"].as_str().unwrap_or_default();
        event["level"] == "WARN" && message.contains("web.yaml")
    })?;
    let message = event["fields"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("line 3"), "{message}");
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let from = &world.cluster.pod(1, 3).namespace;
    client::http(from, frontend)?;

    world.after_programming(|| {
        let moved = whole.replace("10.96.0.10", "10.96.0.11");
        world.manifests.write("web", &moved)
    })?;
    client::http(from, "10.96.0.11:80".parse()?)?;
    Ok(())
}

#[test]
fn a_strange_service_is_refused_by_name_and_the_others_work() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    for (name, spec, reason) in [
        (
            "no-address",
            "{clusterIP: 10.96.0.999, clusterIPs: [10.96.0.999], ports: [{port: 80}]}",
            "10.96.0.999",
        ),
        (
            "port-zero",
            "{clusterIP: 10.96.0.91, clusterIPs: [10.96.0.91], ports: [{port: 0}]}",
            "not between 1 and 65535",
        ),
        (
            "port-beyond",
            "{clusterIP: 10.96.0.92, clusterIPs: [10.96.0.92], ports: [{port: 70000}]}",
            "not between 1 and 65535",
        ),
    ] {
        let mark = world.agents[0].mark();
        world.manifests.write(
            name,
            &format!(
                "apiVersion: v1\nkind: Service\n\
                 metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
            ),
        )?;
        let event = world.agents[0].wait_for(mark, |event| {
            event["fields"]["service"] == format!("default/{name}")
        })?;
        let message = event["fields"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{message}");
    }
    let frontend = SocketAddr::new(cluster_ip("web", Family::V6), 80);
    client::http(&world.cluster.pod(1, 3).namespace, frontend)?;
    Ok(())
}
