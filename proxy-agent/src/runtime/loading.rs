//! The time while the programs are loaded, some seconds on a loaded node.
//!
//! Another thread loads them. Meanwhile the objects are listed, and whoever asks for health is
//! answered: what an agent has left attached goes on serving.

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Signals;
use super::objects::SourceTask;
use super::pinned_state::Takeover;
use crate::config::Settings;
use crate::serve::ReportRequest;
use crate::status::{Detail, Report};

/// What goes on while `loading` does its work; its result, or none where a signal came first.
pub(super) async fn while_loading(
    mut loading: JoinHandle<Result<Takeover>>,
    settings: &Settings,
    signals: &mut Signals,
    source: &mut SourceTask,
    requests: &mut mpsc::Receiver<ReportRequest>,
) -> Result<Option<Takeover>> {
    loop {
        tokio::select! {
            () = signals.next() => return Ok(None),
            loaded = &mut loading => return loaded.context("loading was ended")?.map(Some),
            ended = source.next() => {
                return ended.map(|()| None).context("the source of objects ended");
            }
            Some(request) = requests.recv() => answer(request, settings),
        }
    }
}

/// Whoever wants more than health has to ask again.
fn answer(request: ReportRequest, settings: &Settings) {
    if request.detail == Detail::Health {
        // Who asked may have gone.
        let _ = request.answer.send(before_programming(settings));
    }
}

/// Load balancers go on with what the agent before has left.
fn before_programming(settings: &Settings) -> Report {
    Report {
        node_eligible: true,
        ..Report::at_start(settings.health_timeout())
    }
}
