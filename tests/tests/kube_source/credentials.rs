//! The ways to say how to reach the server, and what changes in them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Result;
use proxy_agent::source::kube::{KubeError, KubeSettings, RequestMetrics, watch};
use proxy_tests::apiserver::{ApiServer, Authority, Options};
use serde_json::{Value, json};

use crate::listener::{Listener, PATIENCE, QUICK, follow, server};
use crate::objects::service;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Writes a kubeconfig with one context.
fn write(path: &Path, cluster: &Value, user: &Value) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "cluster", "user": "user"}}],
    });
    // Not in place: a reader must never find half of it.
    let whole = path.with_extension("new");
    fs::write(&whole, serde_json::to_vec(&config)?)?;
    Ok(fs::rename(whole, path)?)
}

fn settings(path: &Path) -> KubeSettings {
    KubeSettings {
        kubeconfig: Some(path.to_owned()),
        master: None,
        pods: false,
    }
}

/// A server over TLS that takes one token.
fn guarded(authority: &Authority, token: &str) -> Result<ApiServer> {
    server(Options {
        identity: Some(authority.identity(HERE)?),
        tokens: vec![token.to_owned()],
        ..Options::default()
    })
}

#[test]
fn a_kubeconfig_may_name_files() -> Result<()> {
    let authority = Authority::new()?;
    let server = guarded(&authority, "secret")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    fs::write(folder.path().join("ca.crt"), authority.pem())?;
    fs::write(folder.path().join("token"), "secret")?;
    let cluster = json!({"server": server.url(), "certificate-authority": "ca.crt"});
    let token = folder.path().join("token");
    write(&path, &cluster, &json!({"tokenFile": token}))?;
    let mut listener = Listener::with(settings(&path), QUICK);
    follow(&server, &mut listener)
}

#[test]
fn master_replaces_the_address_and_keeps_the_credentials() -> Result<()> {
    let authority = Authority::new()?;
    let server = guarded(&authority, "secret")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    fs::write(folder.path().join("ca.crt"), authority.pem())?;
    let cluster = json!({"server": "https://192.0.2.1:1", "certificate-authority": "ca.crt"});
    write(&path, &cluster, &json!({"token": "secret"}))?;
    let settings = KubeSettings {
        master: Some(server.url()),
        ..settings(&path)
    };
    let mut listener = Listener::with(settings, QUICK);
    follow(&server, &mut listener)
}

#[test]
fn a_token_that_is_refused_is_read_again() -> Result<()> {
    let authority = Authority::new()?;
    let server = guarded(&authority, "good")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    let (token, ca) = (folder.path().join("token"), folder.path().join("ca.crt"));
    fs::write(&ca, authority.pem())?;
    fs::write(&token, "bad")?;
    let cluster = json!({"server": server.url(), "certificate-authority": ca});
    write(&path, &cluster, &json!({"tokenFile": token}))?;
    let mut listener = Listener::with(settings(&path), QUICK);
    server.wait_for_requests(PATIENCE, |seen| seen.len() >= 6)?;
    assert_eq!(server.requests()[0].token.as_deref(), Some("bad"));
    fs::write(&token, "good")?;
    follow(&server, &mut listener)?;

    // And while it runs: the old token is revoked, a new one is in the kubeconfig.
    server.set_tokens(&["better"]);
    server.break_streams();
    let before = server.requests().len();
    server.wait_for_requests(PATIENCE, |seen| seen.len() >= before + 6)?;
    write(&path, &cluster, &json!({"token": "better"}))?;
    server.delete("Service", "default", "a");
    listener.until_services(&["b"])?;
    assert_eq!(listener.gone, ["a"]);
    Ok(())
}

#[test]
fn an_authority_that_is_replaced_is_read_again() -> Result<()> {
    let (old, new) = (Authority::new()?, Authority::new()?);
    let mut server = guarded(&old, "secret")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, old.pem())?;
    let cluster = json!({"server": server.url(), "certificate-authority": ca});
    write(&path, &cluster, &json!({"token": "secret"}))?;
    let mut listener = Listener::with(settings(&path), QUICK);
    follow(&server, &mut listener)?;

    server.set_identity(new.identity(HERE)?);
    server.stop();
    server.resume()?;
    server.apply(service("c"));
    let requests = server.requests().len();
    server.wait_for_connections(PATIENCE, 6)?;
    // Half a file is no reason to give up; nor is one that is gone.
    fs::write(&ca, &new.pem()[..40])?;
    server.wait_for_connections(PATIENCE, 6)?;
    fs::remove_file(&ca)?;
    server.wait_for_connections(PATIENCE, 6)?;
    assert_eq!(server.requests().len(), requests);
    fs::write(&ca, new.pem())?;
    listener.until_services(&["a", "b", "c"])?;
    assert!(listener.gone.is_empty());
    Ok(())
}

#[test]
fn a_server_that_the_authority_does_not_vouch_for_is_not_believed() -> Result<()> {
    let server = guarded(&Authority::new()?, "secret")?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    let ca = folder.path().join("ca.crt");
    let right = server.url();
    fs::write(&ca, Authority::new()?.pem())?;
    let cluster = json!({"server": right, "certificate-authority": ca});
    write(&path, &cluster, &json!({"token": "secret"}))?;
    let mut listener = Listener::with(settings(&path), QUICK);
    server.wait_for_connections(PATIENCE, 6)?;
    // Another server, which it believes once it is told of it.
    let other = self::server(Options::default())?;
    write(&path, &json!({"server": other.url()}), &json!({}))?;
    follow(&other, &mut listener)?;
    assert!(server.requests().is_empty(), "the token was not even sent");
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("config");
    let fails = async |settings: KubeSettings| {
        let (sender, _changes) = tokio::sync::mpsc::channel(1);
        watch(&settings, "here", RequestMetrics::default(), sender)
            .await
            .unwrap_err()
    };
    for master in ["nowhere", "192.0.2.1:6443", "https://", ""] {
        let settings = KubeSettings {
            kubeconfig: None,
            master: Some(master.to_owned()),
            pods: false,
        };
        let error = fails(settings).await;
        assert!(matches!(error, KubeError::Master { .. }), "{error}");
    }
    let error = fails(settings(&path)).await;
    assert!(error.to_string().contains(path.to_str().unwrap()));
    for text in ["", "{", "clusters: []", "current-context: it"] {
        fs::write(&path, text)?;
        let error = fails(settings(&path)).await;
        assert!(matches!(error, KubeError::Kubeconfig { .. }), "{error}");
    }
    let cluster = json!({"server": "https://192.0.2.1", "proxy-url": "http://192.0.2.2"});
    write(&path, &cluster, &json!({}))?;
    let error = fails(settings(&path)).await;
    assert!(matches!(error, KubeError::Proxy { .. }), "{error}");
    let error = fails(KubeSettings::default()).await;
    assert!(matches!(error, KubeError::InCluster(_)), "{error}");
    Ok(())
}
