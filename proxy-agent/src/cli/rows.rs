//! How the rows of lists are shown in tables.

use std::net::SocketAddr;

use super::list::Row;
use super::table::Column;
use crate::inspect::ServiceRef;
use crate::inspect::affinity::AffinityRow;
use crate::inspect::backends::BackendRow;
use crate::inspect::flows::FlowRow;
use crate::inspect::services::ServicePort;

/// In the place of what is not there.
pub(super) const NONE: &str = "-";

/// Columns, those of wide tables behind the others.
fn columns(usual: &[Column], wide: &[Column], is_wide: bool) -> Vec<Column> {
    let wide = if is_wide { wide } else { &[] };
    [usual, wide].concat()
}

fn cells<const N: usize, const M: usize>(
    usual: [String; N],
    wide: [String; M],
    is_wide: bool,
) -> Vec<String> {
    let wide = wide.into_iter().filter(|_| is_wide);
    usual.into_iter().chain(wide).collect()
}

fn service(service: Option<&ServiceRef>) -> String {
    service.map_or_else(|| NONE.to_owned(), ServiceRef::to_string)
}

fn end(end: Option<SocketAddr>) -> String {
    end.map_or_else(|| NONE.to_owned(), |end| end.to_string())
}

/// A truth in a table.
pub(super) fn yes(is_so: bool) -> String {
    if is_so { "yes" } else { "no" }.to_owned()
}

/// A time as `45s`, `12m`, `3h` or `2d`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl Row for ServicePort {
    const KIND: &'static str = "ServicePortList";

    fn columns(is_wide: bool) -> Vec<Column> {
        let usual = [
            Column::elastic("SERVICE"),
            Column::text("FRONTEND"),
            Column::text("PROTOCOL"),
            Column::text("KIND"),
            Column::text("POLICY"),
            Column::number("ENDPOINTS"),
            Column::number("LOCAL"),
            Column::number("CONNECTIONS"),
        ];
        let wide = [
            Column::number("PACKETS"),
            Column::number("AFFINITY"),
            Column::text("ALGORITHM"),
            Column::text("FORWARDING"),
            Column::text("UNANSWERED"),
            Column::number("ID"),
            Column::text("SOURCE-RANGES"),
        ];
        columns(&usual, &wide, is_wide)
    }

    fn lines(&self, is_wide: bool) -> Vec<Vec<String>> {
        let ranges = self.source_ranges.as_ref().map(|it| it.join(","));
        let affinity = Some(self.affinity_seconds).filter(|it| *it > 0);
        let lines = self.frontends.iter().map(|frontend| {
            let ranges = ranges.clone().filter(|_| frontend.restricted);
            cells(
                [
                    self.service.to_string(),
                    frontend.address_and_port(),
                    self.protocol.clone(),
                    frontend.kind.to_owned(),
                    frontend.traffic_policy.to_owned(),
                    self.cluster_endpoints.to_string(),
                    self.local_endpoints.to_string(),
                    self.connections.to_string(),
                ],
                [
                    self.packets.to_string(),
                    affinity.map_or_else(|| NONE.to_owned(), |it| duration(it.into())),
                    self.algorithm.to_owned(),
                    self.forwarding.to_owned(),
                    self.unanswered.unwrap_or(NONE).to_owned(),
                    self.service.id.to_string(),
                    ranges.unwrap_or_else(|| NONE.to_owned()),
                ],
                is_wide,
            )
        });
        lines.collect()
    }
}

impl Row for BackendRow {
    const KIND: &'static str = "BackendList";

    fn columns(is_wide: bool) -> Vec<Column> {
        let usual = [
            Column::elastic("SERVICE"),
            Column::text("ENDPOINT"),
            Column::text("PROTOCOL"),
            Column::state("STATE"),
            Column::text("LOCAL"),
            Column::number("CONNECTIONS"),
            Column::number("PACKETS"),
        ];
        let wide = [
            Column::text("IN-CLUSTER-SET"),
            Column::text("IN-LOCAL-SET"),
            Column::number("INDEX"),
            Column::number("GENERATION"),
        ];
        columns(&usual, &wide, is_wide)
    }

    fn lines(&self, is_wide: bool) -> Vec<Vec<String>> {
        vec![cells(
            [
                service(self.service.as_ref()),
                self.endpoint.to_string(),
                self.protocol.clone().unwrap_or_else(|| NONE.to_owned()),
                self.state.to_owned(),
                yes(self.local),
                self.connections.to_string(),
                self.packets.to_string(),
            ],
            [
                yes(self.in_cluster_set),
                yes(self.in_local_set),
                self.index.to_string(),
                self.generation.to_string(),
            ],
            is_wide,
        )]
    }
}

impl Row for FlowRow {
    const KIND: &'static str = "FlowList";

    fn columns(is_wide: bool) -> Vec<Column> {
        let usual = [
            Column::elastic("SERVICE"),
            Column::text("CLIENT"),
            Column::text("ENDPOINT"),
            Column::text("PROTOCOL"),
            Column::text("STATE"),
            Column::number("IDLE"),
            Column::number("EXPIRES"),
        ];
        let wide = [
            Column::text("FRONTEND"),
            Column::text("MASQUERADED-AS"),
            Column::text("KIND"),
            Column::text("SEEN-REPLY"),
            Column::number("PACKETS"),
            Column::number("BACKEND"),
        ];
        columns(&usual, &wide, is_wide)
    }

    fn lines(&self, is_wide: bool) -> Vec<Vec<String>> {
        vec![cells(
            [
                service(self.service.as_ref()),
                self.client.to_string(),
                end(self.endpoint),
                self.protocol.clone(),
                self.state.to_owned(),
                duration(self.idle_seconds),
                duration(self.expires_in_seconds),
            ],
            [
                self.frontend.to_string(),
                end(self.masqueraded_as),
                self.kind.to_owned(),
                yes(self.seen_reply),
                self.packets.to_string(),
                self.backend
                    .map_or_else(|| NONE.to_owned(), |it| it.to_string()),
            ],
            is_wide,
        )]
    }
}

impl Row for AffinityRow {
    const KIND: &'static str = "AffinityList";

    fn columns(_: bool) -> Vec<Column> {
        vec![
            Column::elastic("SERVICE"),
            Column::text("CLIENT"),
            Column::text("ENDPOINT"),
            Column::number("AGE"),
            Column::number("EXPIRES"),
        ]
    }

    fn lines(&self, _: bool) -> Vec<Vec<String>> {
        vec![vec![
            self.service.to_string(),
            self.client.to_string(),
            end(self.endpoint),
            duration(self.age_seconds),
            duration(self.expires_in_seconds),
        ]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let times = [119, 120, 7199, 7200, 172_800].map(duration);
        assert_eq!(times, ["119s", "2m", "119m", "2h", "2d"]);
    }
}
