//! The stage `Open`: creates a flow to a frontend (endpoint, source address and port, records).

use super::decide::reject_or_drop;
use crate::layout::{
    Backend, Counter, Flow, FrontendKey, Settings, Stage, backend_flags, flow_flags,
    frontend_flags, protocol, settings_flags,
};
use crate::pipeline::context::Context;
use crate::pipeline::flow::capabilities::MasqueradeSource;
use crate::pipeline::flow::claim::insert_records;
use crate::pipeline::flow::record::{Translation, flow_record};
use crate::pipeline::packet::parse::parse_or_first_fragment;
use crate::pipeline::packet::verifier::{barrier_var, hide_bounds};
use crate::pipeline::packet::{Headers, IpVersion, Packet};
use crate::pipeline::service::frontend::find_frontend;
use crate::pipeline::service::pick::{endpoint_selector, pick};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::{Client, Verdict};

impl<A: IpVersion, P: Packet, T: Tables<A>> Context<'_, A, P, T> {
    /// Opens a flow for a packet that belongs to none, or for a first fragment, and has the
    /// packet go on. Its IP header is at `network`.
    #[inline(always)]
    pub fn open<S: MasqueradeSource<A>>(&mut self, sources: &S) -> Verdict<A> {
        let Some((headers, is_whole)) = parse_or_first_fragment::<A, P>(self.packet, self.network)
        else {
            return Verdict::Pass;
        };
        let address = &headers.tuple.destination;
        let mut key = FrontendKey::new(*address, headers.tuple.destination_port, headers.protocol);
        let Some(frontend) = find_frontend(&mut key, address, self.client, self.tables) else {
            // It has gone since the hook looked.
            return Verdict::Pass;
        };
        if self.client == Client::Outside && frontend.flags & frontend_flags::DSR != 0 {
            return Verdict::Continue(Stage::OpenDirect);
        }
        let selector = || endpoint_selector(&headers, &frontend, self.tables);
        let opened = match pick(
            headers.tuple.source,
            self.client,
            &frontend,
            selector,
            self.tables,
        ) {
            Ok((index, backend)) => create_flow_to(
                &headers,
                self.tables,
                self.client,
                sources,
                (index, &backend),
            ),
            Err(reason) => Err(reason),
        };
        self.finish_create(&headers, is_whole, opened)
    }

    /// Has the packet go on that has opened a flow, or says what becomes of it instead.
    #[inline(always)]
    pub(crate) fn finish_create(
        &mut self,
        headers: &Headers<A>,
        is_whole: bool,
        opened: Result<Translation<A>, Counter>,
    ) -> Verdict<A> {
        match opened {
            Ok(translation) if is_whole => self.translate(headers, &translation),
            // Now that its flow is there, it is a fragment like any other.
            Ok(_) => Verdict::Continue(Stage::Fragment),
            Err(reason) => {
                self.tables.count(reason);
                // A reset is not made of a part.
                if !is_whole && headers.protocol == protocol::TCP {
                    return Verdict::Drop;
                }
                reject_or_drop(reason)
            }
        }
    }
}

/// Opens a flow to an endpoint, with its index; an error is the reason to drop the packet.
#[inline(always)]
pub(crate) fn create_flow_to<A: IpVersion, T: Tables<A>, S: MasqueradeSource<A>>(
    headers: &Headers<A>,
    tables: &T,
    client: Client,
    sources: &S,
    (index, backend): (u32, &Backend<A>),
) -> Result<Translation<A>, Counter> {
    let settings = tables.settings().ok_or(Counter::Unroutable)?;
    // A copy: of numbers in a map the kernel's verifier knows less from line to line.
    let nat_ports = settings.nat_ports;
    let flags = hide_bounds(
        flow_flags_for(headers, backend, settings, client),
        tables.now(),
    );
    let mut flow = flow_record(headers, tables, index, backend, flags);
    if flags & flow_flags::REDIRECT != 0 {
        set_source(&mut flow, &headers.tuple.source, settings, sources);
        if flow.tuple.source == A::default() {
            return Err(Counter::Unroutable);
        }
    }
    insert_records(headers, tables, nat_ports, &mut flow)
}

/// Gives a flow whose packets are sent on an address of this node: that of the device by
/// which they leave, as the other end knows whoever comes from there. To a hairpin's own
/// Pod they go back without a look at routes.
#[inline(always)]
fn set_source<A: IpVersion, S: MasqueradeSource<A>>(
    flow: &mut Flow<A>,
    client: &A,
    settings: &Settings<A>,
    sources: &S,
) {
    let found = if flow.flags() & flow_flags::HAIRPIN == 0 {
        sources.source(client, &flow.tuple.destination)
    } else {
        None
    };
    flow.tuple.source = barrier_var(*found.unwrap_or(&settings.node_address));
}

/// How the flow's packets travel: by the stack, or sent on with this node's
/// address because the reply would not pass here otherwise.
#[inline(always)]
fn flow_flags_for<A: IpVersion>(
    headers: &Headers<A>,
    backend: &Backend<A>,
    settings: &Settings<A>,
    client: Client,
) -> u32 {
    if backend.address == headers.tuple.source {
        return flow_flags::REDIRECT | flow_flags::HAIRPIN;
    }
    let is_remote = backend.flags & backend_flags::LOCAL == 0;
    let masquerades_all = settings.flags & settings_flags::MASQUERADE_ALL != 0;
    if masquerades_all || (client == Client::Outside && is_remote) {
        return flow_flags::REDIRECT;
    }
    0
}
