//! What the agent reports of its health.

use super::*;
use crate::maps::FakeMaps;

#[test]
fn a_change_waits_until_it_is_programmed_and_may_wait_for_twice_the_sync_period() {
    let mut settings = Settings {
        sync_period: Duration::from_secs(10),
        ..Settings::default()
    };
    let mut agent = Agent::new("here", &settings, FakeMaps::default());
    agent.apply([Change::NodeGone]);
    // Before the first lists are complete there is nothing that could be late.
    assert!(!agent.program());
    let report = |agent: &Agent<FakeMaps>| agent.report(DevicesReport::default(), Vec::new());
    let families = |agent: &Agent<FakeMaps>| report(agent).families;
    assert!(families(&agent).iter().all(|it| it.pending_for.is_none()));

    agent.apply([Change::ServicesListed, Change::EndpointSlicesListed]);
    assert!(agent.program());
    agent.apply([Change::NodeGone]);
    for family in families(&agent) {
        assert!(family.pending_for.is_some());
    }
    assert_eq!(report(&agent).health_timeout, Duration::from_secs(20));
    assert!(!agent.program());
    settings.sync_period = Duration::from_secs(1);
    agent.configure(&settings);
    agent.program();
    for family in families(&agent) {
        assert!(family.pending_for.is_none());
    }
    assert_eq!(report(&agent).health_timeout, Duration::from_secs(2));
}
