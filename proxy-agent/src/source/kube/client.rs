//! The client of the API server.

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::{KubeError, KubeSettings};

/// A client for the configured server; does not talk to it yet. Tokens and
/// certificates in files are read again as they change.
pub(super) async fn connect(settings: &KubeSettings) -> Result<Client, KubeError> {
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
    Client::try_from(config).map_err(|error| KubeError::Client(Box::new(error)))
}
