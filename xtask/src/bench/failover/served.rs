//! A lab, and what serves the Services on its first node.

use std::{path::Path, sync::Barrier, thread, time::Duration};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Agent, Cluster, Manifests, Options, Pod, PodNetwork};

use super::{
    super::{
        compare::{self, Variant},
        rules::Rules,
        stand,
        workload::{Attempt, Worker},
    },
    clients::{self, Client},
    services,
};

/// A file of manifests.
const SERVICES: &str = "failover";

/// Fields drop in order: processes before their namespaces.
pub(super) struct Served {
    pub(super) agent: Option<Agent>,
    _servers: Vec<Worker>,
    pub(super) cluster: Cluster,
}

impl Served {
    pub(super) fn new(variant: Variant, program: &Path) -> Result<Self> {
        let cluster = Cluster::new(Options {
            network: PodNetwork::Routed,
            pods_per_node: 3,
        })?;
        if variant == Variant::Xdp {
            cluster.make_cables_like_hardware()?;
        }
        clients::set_up(&cluster)?;
        let servers = services::endpoints(&cluster).zip(cpus());
        let server =
            |(pod, cpu): (&Pod, _)| Worker::named(&pod.namespace, cpu, services::PORT, &pod.name);
        let servers = servers.map(server).collect::<Result<Vec<_>>>()?;
        let agent = serve(variant, program, &cluster)?;
        Ok(Self {
            agent,
            _servers: servers,
            cluster,
        })
    }

    /// Has all of these connect, `rate` times a second each for a span, while something happens in
    /// the lab, which begins with the first connections.
    pub(super) fn connect<T>(
        &self,
        clients: &[Client],
        rate: u32,
        span: Duration,
        happens: impl FnOnce() -> Result<T>,
    ) -> Result<(Vec<Vec<Attempt>>, T)> {
        let started = clients.iter().zip(cpus());
        let started = started.map(|(client, cpu)| client.start(&self.cluster, cpu));
        let workers = started.collect::<Result<Vec<_>>>()?;
        let all = Barrier::new(workers.len() + 1);
        thread::scope(|scope| {
            let running = workers
                .into_iter()
                .zip(clients)
                .map(|(mut worker, client)| {
                    let all = &all;
                    scope.spawn(move || {
                        all.wait();
                        let attempts = worker.connect_steadily(client.task(rate, span));
                        attempts.with_context(|| client.to_string())
                    })
                });
            let running: Vec<_> = running.collect();
            all.wait();
            let happened = happens();
            let ended = running.into_iter().map(|it| {
                it.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            let ended: Result<_> = ended.collect();
            Ok((ended?, happened?))
        })
    }

    /// A counter of the agent; 0 where there is none.
    pub(super) fn counter(&self, name: &str) -> Result<f64> {
        if self.agent.is_none() {
            return Ok(0.0);
        }
        let metrics = stand::metrics(&self.cluster.nodes[0])?;
        metrics
            .value(name, &[])
            .with_context(|| format!("no {name}"))
    }
}

/// The CPUs in turn.
fn cpus() -> impl Iterator<Item = usize> {
    let count = thread::available_parallelism().map_or(1, Into::into);
    (0..count).cycle()
}

/// Loads rules, or starts the agent.
fn serve(variant: Variant, program: &Path, cluster: &Cluster) -> Result<Option<Agent>> {
    let node = &cluster.nodes[0];
    let objects = services::objects();
    let Some(options) = variant.options() else {
        let rules = Rules::of(&compare::rules_node(1)?, objects)?;
        compare::load_rules(variant, &rules, &node.namespace, cluster.directory.path())?;
        return Ok(None);
    };
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    let objects: Vec<_> = objects.iter().map(ToString::to_string).collect();
    manifests.write(SERVICES, &objects.join("\n---\n"))?;
    let agent = Agent::start_with(program, node, manifests.path(), &options)?;
    agent.wait_programmed()?;
    for device in ["eth0", &cluster.pod(1, 3).device] {
        agent.wait_attached(device)?;
    }
    Ok(Some(agent))
}
