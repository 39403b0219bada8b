//! What happens while nobody watches is told afterwards, and nothing else is.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::Result;
use proxy_agent::source::kube::RetryPolicy;
use proxy_tests::apiserver::{ApiServer, Expiry, Health, Options, Seen};

use crate::listener::{Listener, PATIENCE, QUICK, acquainted, follow, server};
use crate::objects::{service, service_at};

/// What happens in a gap: a goes, b changes, c comes.
fn happen(server: &ApiServer) {
    server.delete("Service", "default", "a");
    server.apply(service_at("b", "10.96.0.9"));
    server.apply(service("c"));
}

fn is_told(listener: &mut Listener) -> Result<()> {
    listener.until(|heard| {
        heard.services.keys().eq(["b", "c"]) && heard.services["b"] == "10.96.0.9"
    })?;
    assert_eq!(listener.gone, ["a"], "nothing else was ever taken away");
    assert_eq!(listener.lists, 2, "the first lists are told once");
    Ok(())
}

/// How many lists of Services were asked for.
pub(crate) fn lists(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|request| {
            request.is_of("services") && (!request.is_watch() || request.is_streaming_list())
        })
        .count()
}

#[test]
fn a_watch_that_was_ended_goes_on_where_it_stopped() -> Result<()> {
    let (server, mut listener) = acquainted(true, QUICK)?;
    server.cut_streams();
    happen(&server);
    is_told(&mut listener)?;
    assert_eq!(lists(&server.requests()), 1, "no list was needed");
    Ok(())
}

#[test]
fn a_watch_that_broke_in_a_line_goes_on_where_it_stopped() -> Result<()> {
    let (server, mut listener) = acquainted(true, QUICK)?;
    for _ in 0..5 {
        server.break_streams();
    }
    happen(&server);
    is_told(&mut listener)?;
    assert_eq!(lists(&server.requests()), 1, "no list was needed");
    Ok(())
}

#[test]
fn a_watch_whose_time_is_over_goes_on_at_once() -> Result<()> {
    // With such waits, more than one would be past all patience.
    let pace = RetryPolicy {
        watch: Duration::from_secs(1),
        first_wait: PATIENCE,
        longest_wait: PATIENCE,
        settled: Duration::from_millis(100),
        ..QUICK
    };
    let (server, mut listener) = acquainted(true, pace)?;
    let watches = |seen: &[Seen]| seen.iter().filter(|request| request.is_watch()).count();
    server.wait_for_requests(PATIENCE, |seen| watches(seen) >= 9)?;
    happen(&server);
    is_told(&mut listener)?;
    assert_eq!(lists(&server.requests()), 1, "no list was needed");
    Ok(())
}

fn deletions_in_a_gap_are_told(streaming_lists: bool, expiry: Expiry) -> Result<()> {
    let (server, mut listener) = acquainted(streaming_lists, QUICK)?;
    server.set_expiry(expiry);
    server.set_health(Health::Refusing(503));
    server.cut_streams();
    let before = server.requests().len();
    server.wait_for_requests(PATIENCE, |seen| seen.len() >= before + 3)?;
    happen(&server);
    server.compact();
    server.set_health(Health::Well);
    is_told(&mut listener)
}

#[test]
fn deletions_before_a_410_event_are_told_by_a_list_in_pages() -> Result<()> {
    deletions_in_a_gap_are_told(false, Expiry::Event)
}

#[test]
fn deletions_before_a_410_event_are_told_by_a_streaming_list() -> Result<()> {
    deletions_in_a_gap_are_told(true, Expiry::Event)
}

#[test]
fn deletions_before_a_410_status_are_told_by_a_list_in_pages() -> Result<()> {
    deletions_in_a_gap_are_told(false, Expiry::Status)
}

#[test]
fn deletions_before_a_410_status_are_told_by_a_streaming_list() -> Result<()> {
    deletions_in_a_gap_are_told(true, Expiry::Status)
}

#[test]
fn a_410_after_an_outage_is_followed_by_a_list_at_once() -> Result<()> {
    let pace = RetryPolicy {
        first_wait: Duration::from_millis(500),
        longest_wait: PATIENCE,
        ..QUICK
    };
    let (server, mut listener) = acquainted(true, pace)?;
    server.set_expiry(Expiry::Status);
    server.set_health(Health::Refusing(503));
    server.cut_streams();
    let before = server.requests().len();
    let asked = |times: usize| {
        server.wait_for_requests(PATIENCE, |seen| {
            let since = seen.iter().skip(before);
            since.filter(|request| request.is_of("services")).count() >= times
        })
    };
    asked(2)?;
    happen(&server);
    server.compact();
    server.set_health(Health::Well);
    // This is told 410. The fourth wait would be 2 s at least.
    asked(3)?;
    let began = Instant::now();
    is_told(&mut listener)?;
    assert!(began.elapsed() < Duration::from_millis(1500));
    Ok(())
}

#[test]
fn a_server_that_was_restarted_is_followed() -> Result<()> {
    let (mut server, mut listener) = acquainted(true, QUICK)?;
    server.stop();
    happen(&server);
    server.resume()?;
    is_told(&mut listener)?;
    assert_eq!(lists(&server.requests()), 1, "it remembers what happened");
    Ok(())
}

#[test]
fn a_server_that_was_restarted_without_its_history_is_followed() -> Result<()> {
    let (mut server, mut listener) = acquainted(false, QUICK)?;
    server.stop();
    happen(&server);
    server.compact();
    server.resume()?;
    is_told(&mut listener)
}

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() -> Result<()> {
    let mut server = server(Options::default())?;
    server.stop();
    let mut listener = Listener::of(&server, QUICK);
    // Somebody is at its address who only hangs up.
    let door = TcpListener::bind(server.address())?;
    for _ in 0..6 {
        drop(door.accept()?);
    }
    drop(door);
    server.resume()?;
    follow(&server, &mut listener)
}

#[test]
fn a_list_that_expires_between_two_pages_is_taken_whole() -> Result<()> {
    let pace = RetryPolicy { page: 1, ..QUICK };
    let server = server(Options {
        streaming_lists: false,
        ..Options::default()
    })?;
    // Time enough to compact between a request for a page and its answer.
    server.set_delay(Duration::from_millis(300));
    let mut listener = Listener::of(&server, pace);
    let second =
        |request: &Seen| request.is_of("services") && request.parameter("continue").is_some();
    server.wait_for_requests(PATIENCE, |seen| seen.iter().any(second))?;
    server.compact();
    server.set_delay(Duration::ZERO);
    follow(&server, &mut listener)?;
    let requests = server.requests();
    assert!(requests.iter().any(|request| {
        request.is_of("services") && !request.is_watch() && request.parameter("limit").is_none()
    }));
    assert!(listener.gone.is_empty());
    Ok(())
}
