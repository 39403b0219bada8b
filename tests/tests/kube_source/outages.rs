//! While the server is in trouble nothing is taken away, and it is not asked more
//! often than it can bear.

use std::time::{Duration, Instant};

use anyhow::Result;
use proxy_agent::source::kube::RetryPolicy;
use proxy_tests::apiserver::{ApiServer, Health, Options, Seen};

use crate::gaps::lists;
use crate::listener::{Listener, PATIENCE, QUICK, acquainted, follow, server};
use crate::objects::service;

#[test]
fn no_refusal_takes_anything_away() -> Result<()> {
    let (server, mut listener) = acquainted(true, QUICK)?;
    for code in [400, 401, 403, 404, 422, 429, 500, 503, 504] {
        let before = server.requests().len();
        server.set_health(Health::Refusing(code));
        server.break_streams();
        server.wait_for_requests(PATIENCE, |seen| seen.len() >= before + 6)?;
        server.set_health(Health::Well);
        let name = format!("after-{code}");
        server.apply(service(&name));
        listener.until(|heard| heard.services.contains_key(&name))?;
        server.delete("Service", "default", &name);
        listener.until_services(&["a", "b"])?;
        assert_eq!(listener.gone.pop(), Some(name));
        assert!(listener.gone.is_empty(), "{code}: {:?}", listener.gone);
    }
    assert_eq!(listener.lists, 2);
    assert_eq!(
        lists(&server.requests()),
        1,
        "a list is no cure for trouble"
    );
    Ok(())
}

/// Watches that end silently are noticed: asked for one second, given up soon after.
const WAKEFUL: RetryPolicy = RetryPolicy {
    watch: Duration::from_secs(1),
    grace: Duration::from_millis(200),
    answer: Duration::from_millis(500),
    ..QUICK
};

#[test]
fn a_server_that_goes_silent_is_noticed() -> Result<()> {
    let (server, mut listener) = acquainted(true, WAKEFUL)?;
    server.set_health(Health::Silent);
    let before = server.requests().len();
    server.apply(service("c"));
    server.delete("Service", "default", "a");
    // Several times over: the ones after the first find a connection in silence.
    server.wait_for_requests(PATIENCE, |seen| seen.len() >= before + 9)?;
    assert!(listener.services.keys().eq(["a", "b"]));
    server.set_health(Health::Well);
    listener.until_services(&["b", "c"])?;
    assert_eq!(listener.gone, ["a"]);
    Ok(())
}

#[test]
fn a_server_that_is_silent_from_the_start_is_noticed() -> Result<()> {
    for streaming_lists in [false, true] {
        let server = server(Options {
            streaming_lists,
            ..Options::default()
        })?;
        server.set_health(Health::Silent);
        let mut listener = Listener::of(&server, WAKEFUL);
        server.wait_for_requests(PATIENCE, |seen| seen.len() >= 6)?;
        server.set_health(Health::Well);
        follow(&server, &mut listener)?;
    }
    Ok(())
}

#[test]
fn a_slow_server_is_followed() -> Result<()> {
    let pace = RetryPolicy { page: 1, ..WAKEFUL };
    for streaming_lists in [false, true] {
        let server = server(Options {
            streaming_lists,
            ..Options::default()
        })?;
        server.set_delay(Duration::from_millis(100));
        let mut listener = Listener::of(&server, pace);
        follow(&server, &mut listener)?;
        server.apply(service("c"));
        listener.until_services(&["a", "b", "c"])?;
        assert!(listener.gone.is_empty());
    }
    Ok(())
}

/// Waits until the source has asked for Services `count` times from now on, and checks
/// that it waited longer and longer in between.
fn waits_grow(server: &ApiServer, count: u32, pace: RetryPolicy) -> Result<()> {
    let before = server.requests().len();
    let began = Instant::now();
    let of_services = |seen: &[Seen]| -> u32 {
        let since = seen.iter().skip(before);
        since
            .map(|request| u32::from(request.is_of("services")))
            .sum()
    };
    server.wait_for_requests(PATIENCE, |seen| of_services(seen) >= count)?;
    let mut least = Duration::ZERO;
    let mut wait = pace.first_wait;
    // One of the requests may have been under way.
    for _ in 2..count {
        least += wait / 2;
        wait = (wait * 2).min(pace.longest_wait);
    }
    let took = began.elapsed();
    assert!(took >= least, "{count} requests in {took:?}");
    Ok(())
}

const GROWING: RetryPolicy = RetryPolicy {
    first_wait: Duration::from_millis(40),
    longest_wait: Duration::from_millis(640),
    ..QUICK
};

#[test]
fn a_server_that_refuses_is_asked_less_and_less() -> Result<()> {
    let (server, _listener) = acquainted(true, GROWING)?;
    server.set_health(Health::Refusing(500));
    server.cut_streams();
    waits_grow(&server, 7, GROWING)
}

#[test]
fn a_server_that_ends_each_watch_at_once_is_asked_less_and_less() -> Result<()> {
    let (server, mut listener) = acquainted(true, GROWING)?;
    server.set_health(Health::EndingWatches);
    server.cut_streams();
    waits_grow(&server, 7, GROWING)?;
    server.set_health(Health::Well);
    server.apply(service("c"));
    listener.until_services(&["a", "b", "c"])
}

#[test]
fn a_server_whose_streaming_lists_never_end_is_listed_in_pages() -> Result<()> {
    let server = server(Options::default())?;
    server.set_health(Health::EndingWatches);
    let mut listener = Listener::of(&server, QUICK);
    listener.until(|heard| heard.lists == 2 && !heard.nodes.is_empty())?;
    server.set_health(Health::Well);
    server.apply(service("c"));
    listener.until_services(&["a", "b", "c"])
}
