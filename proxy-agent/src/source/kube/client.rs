//! The client of the API server.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::{Client as HttpClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ConfigExt as _};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::util::option_layer;
use tower::{BoxError, Layer as _, ServiceExt as _};
use tracing::{debug, warn};

use super::measured::{Measured, RequestMetrics};
use super::{KubeError, KubeSettings};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch may have nothing to say for minutes, and a peer that is gone says nothing
/// either: the kernel asks after so much silence ...
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
/// ... and again at this interval ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ... so many times. So a node that is cut off from the server knows within 35
/// seconds; client-go takes 45 (HTTP/2 pings).
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent must be acknowledged within this time (`TCP_USER_TIMEOUT`, tcp(7)).
const USER_TIMEOUT: Duration = Duration::from_secs(35);

/// The way to the server: a client, made anew from the files where they may have
/// changed.
///
/// kube reads a token file again once a minute, and the pod's certificate of the
/// server's authority too. It does not so with a kubeconfig, nor with certificates
/// that one names; and a token that was revoked need not live on for a minute.
#[derive(Debug)]
pub(crate) struct Connection {
    settings: KubeSettings,
    metrics: RequestMetrics,
    current: Mutex<Current>,
    /// Whether it was said what to set for an address that cannot be reached.
    is_advised: AtomicBool,
}

/// A client, and how many there were before it.
#[derive(Clone)]
struct Current {
    client: Client,
    server: Server,
    number: u64,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, number, .. } = self;
        f.debug_tuple("Current")
            .field(server)
            .field(number)
            .finish()
    }
}

/// The server's address, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    address: String,
    origin: AddressOrigin,
}

/// Where the server's address is from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AddressOrigin {
    Master,
    Kubeconfig(PathBuf),
    /// The Service `kubernetes`: the environment of Pods has it.
    ServiceAccount,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, origin } = self;
        match origin {
            AddressOrigin::Master => write!(f, "{address}, of --master"),
            AddressOrigin::Kubeconfig(file) => write!(f, "{address}, of {}", file.display()),
            AddressOrigin::ServiceAccount => write!(f, "{address}, the Service kubernetes"),
        }
    }
}

impl Server {
    fn of(config: &Config, settings: &KubeSettings) -> Self {
        let origin = match (&settings.master, &settings.kubeconfig) {
            (Some(_), _) => AddressOrigin::Master,
            (None, Some(file)) => AddressOrigin::Kubeconfig(file.clone()),
            (None, None) => AddressOrigin::ServiceAccount,
        };
        Self {
            address: config.cluster_url.to_string(),
            origin,
        }
    }

    /// What to do where nobody answers at the address.
    fn advice(&self) -> Option<&'static str> {
        (self.origin == AddressOrigin::ServiceAccount).then_some(
            "it is reached through this proxy, once that has reached the API server; unless another \
             proxy runs until then, set the server's own address \
             (`apiServer` in the manifests' kustomization.yaml, --master, or a kubeconfig file)",
        )
    }
}

impl Connection {
    /// Makes the first client; does not talk to the server yet.
    pub(crate) async fn open(
        settings: &KubeSettings,
        metrics: RequestMetrics,
    ) -> Result<Self, KubeError> {
        let (client, server) = make(settings, &metrics).await?;
        let current = Current {
            client,
            server,
            number: 0,
        };
        Ok(Self {
            settings: settings.clone(),
            metrics,
            current: Mutex::new(current),
            is_advised: AtomicBool::new(false),
        })
    }

    /// The client, and its number for [`Self::renew`].
    pub(crate) fn client(&self) -> (Client, u64) {
        let Current { client, number, .. } = self.current().clone();
        (client, number)
    }

    /// The server's address. Where there is something to say of one that cannot be reached,
    /// that is logged, once.
    pub(crate) fn unreachable_server(&self) -> Server {
        let server = self.current().server.clone();
        if let Some(advice) = server.advice()
            && !self.is_advised.swap(true, Ordering::Relaxed)
        {
            warn!("cannot reach the API server at {server}: {advice}");
        }
        server
    }

    /// After an error of a client: makes a new one, unless somebody else has.
    /// Files that cannot be used, as while they are written, change nothing.
    pub(crate) async fn renew(&self, number: u64) {
        if self.current().number != number {
            return;
        }
        match make(&self.settings, &self.metrics).await {
            Ok((client, server)) => {
                let mut current = self.current();
                if current.number == number {
                    debug!("created a new client");
                    *current = Current {
                        client,
                        server,
                        number: number.wrapping_add(1),
                    };
                }
            }
            Err(error) => warn!(
                "{:#}; keeping the current client",
                anyhow::Error::from(error)
            ),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client for the configured server. Files are read, and a credential plugin may
/// run, so it happens beside the runtime's thread.
async fn make(
    settings: &KubeSettings,
    metrics: &RequestMetrics,
) -> Result<(Client, Server), KubeError> {
    let config = configure(settings).await?;
    let server = Server::of(&config, settings);
    let metrics = metrics.clone();
    let made = tokio::task::spawn_blocking(move || build(&config, metrics)).await;
    let client = made.unwrap_or_else(|_| Err(KubeError::Interrupted))?;
    Ok((client, server))
}

async fn configure(settings: &KubeSettings) -> Result<Config, KubeError> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let bad = |source: KubeconfigError| KubeError::Kubeconfig {
                path: path.clone(),
                source: Box::new(source),
            };
            let file = Kubeconfig::read_from(path).map_err(bad)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(bad)?
        }
        None => match (Config::incluster(), &settings.master) {
            (Ok(config), _) => config,
            // A server that asks for no credentials, such as a test's.
            (Err(_), Some(_)) => Config::new(http::Uri::default()),
            (Err(error), None) => return Err(KubeError::InCluster(error)),
        },
    };
    if let Some(master) = &settings.master {
        config.cluster_url = master
            .parse()
            .ok()
            .filter(|uri: &http::Uri| uri.scheme().is_some() && uri.host().is_some())
            .ok_or_else(|| KubeError::Master {
                master: master.clone(),
            })?;
    }
    if let Some(proxy) = config.proxy_url {
        return Err(KubeError::Proxy {
            proxy: proxy.to_string(),
        });
    }
    Ok(config)
}

/// kube's own layers on a connector that notices dead peers; kube's connector
/// leaves that to the kernel's defaults, which are hours.
fn build(config: &Config, metrics: RequestMetrics) -> Result<Client, KubeError> {
    let bad = |error| KubeError::Client(Box::new(error));
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE_TIME));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let connector = config
        .rustls_https_connector_with_connector(connector)
        .map_err(bad)?;
    let service = HttpClient::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = Measured::new(service, metrics).map_err(BoxError::from);
    let service = config.extra_headers_layer().map_err(bad)?.layer(service);
    let service = option_layer(config.auth_layer().map_err(bad)?).layer(service);
    let service = config.base_uri_layer().layer(service);
    Ok(Client::new(service, config.default_namespace.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_address_is_and_what_to_do_is_said() {
        let config = Config::new("https://10.96.0.1:443".parse().unwrap());
        let in_pod = Server::of(&config, &KubeSettings::default());
        let said = in_pod.to_string();
        assert_eq!(said, "https://10.96.0.1:443/, the Service kubernetes");
        assert!(in_pod.advice().unwrap().contains("apiServer"));

        let from_file = KubeSettings {
            kubeconfig: Some("/k/kubeconfig.conf".into()),
            ..KubeSettings::default()
        };
        let server = Server::of(&config, &from_file);
        assert_eq!(
            (server.to_string().as_str(), server.advice()),
            ("https://10.96.0.1:443/, of /k/kubeconfig.conf", None)
        );
        let given = KubeSettings {
            master: Some("https://10.96.0.1:443".to_owned()),
            ..from_file
        };
        let said = Server::of(&config, &given).to_string();
        assert_eq!(said, "https://10.96.0.1:443/, of --master");
    }
}
