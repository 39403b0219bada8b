//! Examples at the end of each command's help.

pub(super) const STATUS_EXAMPLES: &str = "Examples:
  On the node, or in the agent's Pod:
    proxy-agent status

  Which devices have no XDP, and why?
    proxy-agent status -o json | jq '.devices[] | select(.xdp | not) | {name, why}'";

pub(super) const VERIFY_EXAMPLES: &str = "Examples:
  Has somebody else written to the agent's maps?
    proxy-agent verify";

pub(super) const EXPLAIN_EXAMPLES: &str = "Examples:
  Why does this Pod not reach the cluster's DNS?
    proxy-agent explain 10.244.1.5 10.96.0.10:53/udp

  Where does a client from outside end up, over IPv6?
    proxy-agent explain [2001:db8::7]:40000 [2001:db8::100]:443/tcp";

pub(super) const TRACE_EXAMPLES: &str = "Examples:
  What does this node refuse, and why?
    proxy-agent trace --drops -o wide

  Who connects to a Service, and to which endpoints?
    proxy-agent trace --new --service default/web

  How often was each endpoint selected in ten seconds?
    timeout -s INT 10 proxy-agent trace --new -o json | jq -r '.endpoint // empty' | sort | uniq -c";

pub(super) const TOP_EXAMPLES: &str = "Examples:
  In the agent's Pod:
    kubectl -n kube-system exec -it ds/proxy-agent -- /proxy-agent top

  With an overview each ten seconds:
    proxy-agent top --interval 10";

pub(super) const SERVICES_EXAMPLES: &str = "Examples:
  All ports of one Service:
    proxy-agent services --service default/web

  Whose is the NodePort 30080?
    proxy-agent services --port 30080

  Services without endpoints:
    proxy-agent services -o json | jq '.items[] | select(.clusterEndpoints == 0) | .service'";

pub(super) const BACKENDS_EXAMPLES: &str = "Examples:
  The endpoints of one port of a Service, with what each has got:
    proxy-agent backends --service default/web:http

  Which Services does a Pod serve?
    proxy-agent backends --address 10.244.1.5";

pub(super) const FLOWS_EXAMPLES: &str = "Examples:
  Who is connected to a Service?
    proxy-agent flows --service default/web

  What does a client do, each two seconds?
    proxy-agent flows --address 192.0.2.7 --watch

  How many flows has each endpoint?
    proxy-agent flows -o json | jq -r '.items[].endpoint' | sort | uniq -c";

pub(super) const AFFINITY_EXAMPLES: &str = "Examples:
  Where does a client go, and for how long?
    proxy-agent affinity --address 192.0.2.7";

pub(super) const RUN_EXAMPLES: &str = "Examples:
  Serve a cluster's Services, with the settings of its kube-proxy:
    proxy-agent run --config /var/lib/kube-proxy/config.conf

  The same as this machine's Node, by a kubeconfig file:
    proxy-agent run --hostname-override node1 --kubeconfig /etc/kubernetes/proxy.conf

  Serve the Services in a folder of manifests, as node1:
    proxy-agent run --source files --manifests manifests/examples --hostname-override node1";
