//! The scene: a cluster with servers in its pods and an agent on each node.

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Agent, Cluster, Manifests, Namespace, Options, Process, server};

use crate::terminal;

/// Everything that has to stay up during the demo.
pub(super) struct Running {
    pub(super) agents: Vec<Agent>,
    _servers: Vec<Process>,
    pub(super) manifests: Manifests,
    pub(super) cluster: Cluster,
}

impl Running {
    /// Lays out the cluster and starts everything in it.
    pub(super) fn set_up(agent: &Path) -> Result<Self> {
        terminal::heading("Cluster");
        let done = |what: &str, since: Instant| {
            let took = since.elapsed().as_secs_f64();
            terminal::item(
                "ok",
                &format!("{what} {}", terminal::dim(&format!("({took:.1} s)"))),
            );
        };

        let started = Instant::now();
        let cluster = Cluster::new(Options::default())?;
        let manifests = Manifests::copy_examples(cluster.directory.path())?;
        done("2 nodes, 6 pods, a client outside; IPv4 and IPv6", started);

        let started = Instant::now();
        let mut servers = server::start_http(cluster.directory.path(), cluster.pods())?;
        servers.extend(server::start_dns(cluster.pods())?);
        done("busybox httpd and dnsmasq in every pod", started);

        let started = Instant::now();
        let agents = cluster
            .nodes
            .iter()
            .map(|node| Agent::start(agent, node, manifests.path()))
            .collect::<Result<Vec<_>>>()?;
        for (agent, node) in agents.iter().zip(&cluster.nodes) {
            agent.wait_programmed()?;
            agent.wait_attached("eth0")?;
            for pod in &node.pods {
                agent.wait_attached(&pod.device)?;
            }
        }
        done(
            "proxy-agent on both nodes, attached and programmed",
            started,
        );
        Ok(Self {
            agents,
            _servers: servers,
            manifests,
            cluster,
        })
    }

    /// Those who ask: a pod on each node, and the client outside.
    pub(super) fn clients(&self) -> [(&str, &Namespace); 3] {
        let [one, two] = [1, 2].map(|node| self.cluster.pod(node, 3));
        [
            (&one.name, &one.namespace),
            (&two.name, &two.namespace),
            ("outside", &self.cluster.client),
        ]
    }

    /// Changes the endpoints of web, and waits until both agents have programmed them.
    pub(super) fn set_web_endpoints(&self, pods: &[(usize, usize)]) -> Result<()> {
        let pods: Vec<_> = pods
            .iter()
            .map(|&(node, pod)| self.cluster.pod(node, pod))
            .collect();
        let marks: Vec<_> = self.agents.iter().map(Agent::mark).collect();
        self.manifests.set_endpoints("web", &pods)?;
        for (agent, mark) in self.agents.iter().zip(marks) {
            agent.wait_programmed_after(mark)?;
        }
        Ok(())
    }

    /// Tells a person how to look around.
    pub(super) fn print_directions(&self) {
        let enter = |namespace: &Namespace| format!("nsenter --net={}", namespace.path().display());
        let (pod, outside) = (
            enter(&self.cluster.pod(1, 3).namespace),
            enter(&self.cluster.client),
        );
        terminal::heading("The cluster stays up; from another terminal");
        println!(
            "  {pod} curl -s http://10.96.0.10/
  {outside} curl -gs 'http://[fd00:10:96::10]/'
  {outside} curl -s http://172.31.0.12:30080/
  {pod} dig +short @10.96.0.53 TXT who.
  {node} ip address

The agents watch {manifests}: edit a file there and ask again.
Enter or Ctrl-C takes it all down.",
            node = enter(&self.cluster.nodes[0].namespace),
            manifests = self.manifests.path().display(),
        );
    }

    /// Ends the agents as Kubernetes would; the rest goes with its guards.
    pub(super) fn take_down(self) -> Result<()> {
        for agent in self.agents {
            agent.stop().context("an agent does not end on SIGTERM")?;
        }
        Ok(())
    }
}
