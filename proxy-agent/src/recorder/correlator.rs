//! Which Events are sent: equal ones become a series, and there are limits.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Event, Recorded};

/// Equal Events with more than this between them are no series.
const MAX_SERIES_GAP: Duration = Duration::from_mins(10);

/// Series that are known at a time.
const MAX_SERIES: usize = 1024;

/// Series of one object at a time: more say no more. client-go's number.
const MAX_SERIES_PER_OBJECT: usize = 25;

/// Requests that may come at once: every node of a cluster may have the same to report
/// in the same moment ...
const BURST: u32 = 30;

/// ... and the time after which another one may.
const REFILL: Duration = Duration::from_secs(2);

/// What was sent, and what may be.
#[derive(Debug)]
pub(super) struct EventCorrelator {
    series: HashMap<Event, Series>,
    /// Requests that may be made, as of `counted_at`.
    tokens: u32,
    counted_at: Instant,
}

/// An Event that was sent, and those like it since.
#[derive(Clone, Debug)]
struct Series {
    /// The object's name.
    name: String,
    count: u32,
    last_time: SystemTime,
    last_at: Instant,
    /// The count that the server knows.
    reported: u32,
}

/// What to do with an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Send it.
    Send,
    /// It counts for one that was sent.
    Aggregated,
    /// Discard it: there are too many.
    Discard,
}

/// A series of which the server should know more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) count: u32,
    pub(super) last_time: SystemTime,
}

impl EventCorrelator {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            series: HashMap::new(),
            tokens: BURST,
            counted_at: now,
        }
    }

    /// What to do with an Event.
    pub(super) fn correlate(&mut self, recorded: &Recorded) -> Decision {
        self.forget(recorded.at);
        if let Some(series) = self.series.get_mut(&recorded.event) {
            series.count = series.count.saturating_add(1);
            series.last_time = recorded.time;
            series.last_at = recorded.at;
            return Decision::Aggregated;
        }
        let regarding = &recorded.event.regarding;
        let of_subject = self.series.keys();
        let of_subject = of_subject
            .filter(|event| event.regarding == *regarding)
            .count();
        if self.series.len() >= MAX_SERIES
            || of_subject >= MAX_SERIES_PER_OBJECT
            || !self.take_token(recorded.at)
        {
            return Decision::Discard;
        }
        Decision::Send
    }

    /// An Event was sent as the object `name`.
    pub(super) fn sent(&mut self, recorded: Recorded, name: String) {
        let series = Series {
            name,
            count: 1,
            last_time: recorded.time,
            last_at: recorded.at,
            reported: 1,
        };
        self.series.insert(recorded.event, series);
    }

    /// The series that have grown, as far as requests may be made; they count as reported.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        self.forget(now);
        let grown = self.series.iter();
        let grown = grown.filter(|(_, series)| series.count != series.reported);
        let grown: Vec<_> = grown.map(|(event, _)| event.clone()).collect();
        let mut due = Vec::new();
        for event in grown {
            if !self.take_token(now) {
                break;
            }
            if let Some(series) = self.series.get_mut(&event) {
                series.reported = series.count;
                due.push(Due {
                    namespace: event.regarding.namespace().to_owned(),
                    name: series.name.clone(),
                    count: series.count,
                    last_time: series.last_time,
                });
            }
        }
        due
    }

    fn forget(&mut self, now: Instant) {
        self.series.retain(|_, series| {
            series.count != series.reported
                || now.saturating_duration_since(series.last_at) <= MAX_SERIES_GAP
        });
    }

    /// Whether a request may be made; if so it is accounted for.
    fn take_token(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted_at);
        let refills = passed.as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(BURST);
        self.tokens = self.tokens.saturating_add(refills).min(BURST);
        self.counted_at += REFILL * refills;
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EventType, Regarding};
    use super::*;
    use crate::model::ObjectName;

    fn recorded(service: &str, note: usize, at: Instant) -> Recorded {
        Recorded {
            event: Event {
                regarding: Regarding::Service(ObjectName::new("n", service)),
                event_type: EventType::Warning,
                reason: "Reason",
                action: "Action",
                note: note.to_string(),
            },
            time: SystemTime::UNIX_EPOCH,
            at,
        }
    }

    /// Judges, and sends what is to be sent.
    fn take(correlator: &mut EventCorrelator, recorded: Recorded) -> Decision {
        let verdict = correlator.correlate(&recorded);
        if verdict == Decision::Send {
            correlator.sent(recorded, "name".to_owned());
        }
        verdict
    }

    #[test]
    fn equal_events_are_one_series_until_there_is_a_long_gap() {
        let mut now = Instant::now();
        let mut correlator = EventCorrelator::new(now);
        assert_eq!(take(&mut correlator, recorded("a", 0, now)), Decision::Send);
        assert!(correlator.due(now).is_empty());
        for _ in 0..3 {
            now += MAX_SERIES_GAP;
            assert_eq!(
                take(&mut correlator, recorded("a", 0, now)),
                Decision::Aggregated
            );
        }
        let due = correlator.due(now);
        assert_eq!((due.len(), due[0].count), (1, 4));
        assert!(correlator.due(now).is_empty(), "it is reported");
        now += MAX_SERIES_GAP + Duration::from_secs(1);
        assert_eq!(take(&mut correlator, recorded("a", 0, now)), Decision::Send);
    }

    #[test]
    fn one_object_cannot_use_up_what_all_have() {
        let now = Instant::now();
        let mut correlator = EventCorrelator::new(now);
        for note in 0..MAX_SERIES_PER_OBJECT {
            assert_eq!(
                take(&mut correlator, recorded("a", note, now)),
                Decision::Send
            );
        }
        assert_eq!(
            take(&mut correlator, recorded("a", 99, now)),
            Decision::Discard
        );
        assert_eq!(take(&mut correlator, recorded("b", 0, now)), Decision::Send);
    }

    #[test]
    fn a_flood_is_sent_as_fast_as_the_server_can_bear_and_no_more_is_kept() {
        let start = Instant::now();
        let mut correlator = EventCorrelator::new(start);
        let mut sent = 0;
        for number in 0..100_000 {
            let at = start + Duration::from_millis(number * 10);
            let service = number.to_string();
            if take(&mut correlator, recorded(&service, 0, at)) == Decision::Send {
                sent += 1;
            }
        }
        // 1000 seconds.
        assert_eq!(sent, 30 + 499);
        assert!(correlator.series.len() <= MAX_SERIES);
    }
}
