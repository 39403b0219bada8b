//! Which Events are sent: equal ones become a series, and there are limits.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Event, Recorded};

/// Equal Events with more than this between them are no series.
const LONGEST_GAP: Duration = Duration::from_mins(10);

/// Series that are known at a time.
const MOST_SERIES: usize = 1024;

/// Series of one object at a time: more say no more. client-go's number.
const MOST_OF_ONE_SUBJECT: usize = 25;

/// Requests that may come at once: every node of a cluster may have the same to report
/// in the same moment ...
const BURST: u32 = 30;

/// ... and the time after which another one may.
const REFILL: Duration = Duration::from_secs(2);

/// What was sent, and what may be.
#[derive(Debug)]
pub(super) struct Ledger {
    series: HashMap<Event, Series>,
    /// Requests that may be made, as of `counted_at`.
    budget: u32,
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
pub(super) enum Verdict {
    /// Send it.
    Send,
    /// It counts for one that was sent.
    Counted,
    /// Leave it: there are too many.
    Leave,
}

/// A series of which the server should know more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) count: u32,
    pub(super) last_time: SystemTime,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            series: HashMap::new(),
            budget: BURST,
            counted_at: now,
        }
    }

    /// What to do with an Event.
    pub(super) fn judge(&mut self, recorded: &Recorded) -> Verdict {
        self.forget(recorded.at);
        if let Some(series) = self.series.get_mut(&recorded.event) {
            series.count = series.count.saturating_add(1);
            series.last_time = recorded.time;
            series.last_at = recorded.at;
            return Verdict::Counted;
        }
        let subject = &recorded.event.subject;
        let of_subject = self.series.keys();
        let of_subject = of_subject.filter(|event| event.subject == *subject).count();
        if self.series.len() >= MOST_SERIES
            || of_subject >= MOST_OF_ONE_SUBJECT
            || !self.spend(recorded.at)
        {
            return Verdict::Leave;
        }
        Verdict::Send
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
            if !self.spend(now) {
                break;
            }
            if let Some(series) = self.series.get_mut(&event) {
                series.reported = series.count;
                due.push(Due {
                    namespace: event.subject.namespace().to_owned(),
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
                || now.saturating_duration_since(series.last_at) <= LONGEST_GAP
        });
    }

    /// Whether a request may be made; if so it is accounted for.
    fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted_at);
        let refills = passed.as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(BURST);
        self.budget = self.budget.saturating_add(refills).min(BURST);
        self.counted_at += REFILL * refills;
        let may = self.budget > 0;
        self.budget = self.budget.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Level, Subject};
    use super::*;
    use crate::model::ObjectName;

    fn recorded(service: &str, note: usize, at: Instant) -> Recorded {
        Recorded {
            event: Event {
                subject: Subject::Service(ObjectName::new("n", service)),
                level: Level::Warning,
                reason: "Reason",
                action: "Action",
                note: note.to_string(),
            },
            time: SystemTime::UNIX_EPOCH,
            at,
        }
    }

    /// Judges, and sends what is to be sent.
    fn take(ledger: &mut Ledger, recorded: Recorded) -> Verdict {
        let verdict = ledger.judge(&recorded);
        if verdict == Verdict::Send {
            ledger.sent(recorded, "name".to_owned());
        }
        verdict
    }

    #[test]
    fn equal_events_are_one_series_until_there_is_a_long_gap() {
        let mut now = Instant::now();
        let mut ledger = Ledger::new(now);
        assert_eq!(take(&mut ledger, recorded("a", 0, now)), Verdict::Send);
        assert!(ledger.due(now).is_empty());
        for _ in 0..3 {
            now += LONGEST_GAP;
            assert_eq!(take(&mut ledger, recorded("a", 0, now)), Verdict::Counted);
        }
        let due = ledger.due(now);
        assert_eq!((due.len(), due[0].count), (1, 4));
        assert!(ledger.due(now).is_empty(), "it is reported");
        now += LONGEST_GAP + Duration::from_secs(1);
        assert_eq!(take(&mut ledger, recorded("a", 0, now)), Verdict::Send);
    }

    #[test]
    fn one_object_cannot_use_up_what_all_have() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        for note in 0..MOST_OF_ONE_SUBJECT {
            assert_eq!(take(&mut ledger, recorded("a", note, now)), Verdict::Send);
        }
        assert_eq!(take(&mut ledger, recorded("a", 99, now)), Verdict::Leave);
        assert_eq!(take(&mut ledger, recorded("b", 0, now)), Verdict::Send);
    }

    #[test]
    fn a_flood_is_sent_as_fast_as_the_server_can_bear_and_no_more_is_kept() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let mut sent = 0;
        for number in 0..100_000 {
            let at = start + Duration::from_millis(number * 10);
            let service = number.to_string();
            if take(&mut ledger, recorded(&service, 0, at)) == Verdict::Send {
                sent += 1;
            }
        }
        // 1000 seconds.
        assert_eq!(sent, 30 + 499);
        assert!(ledger.series.len() <= MOST_SERIES);
    }
}
