//! The time of `connect` over the time at which it began.

use std::time::Duration;

use anyhow::Result;
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, IntoDrawingArea as _, SVGBackend, WHITE,
};
use proxy_tests::lab::Family;

use super::{
    super::{
        report::svg::{HEIGHT, WIDTH, colour, to_error},
        workload::Attempt,
    },
    Client, DARK, END, LIGHT, PATIENCE, Run, Variant,
    clients::Place,
    services::Choice,
};

/// Values from a tenth of a millisecond on, by their logarithms.
const LEAST: f64 = 1e-4;

/// Connections that took less are alike: some stand for all.
const QUICK: Duration = Duration::from_millis(20);
/// About so many quick ones of a panel are drawn.
const DRAWN: usize = 2000;

/// Draws a panel for each variant: the connections that began in a Pod over IPv4, of XDP those
/// from outside.
pub(super) fn draw(runs: &[Run]) -> Result<String> {
    let is_drawn = |it: &&Run| {
        let place = match it.variant {
            Variant::Xdp => Place::Outside,
            _ => Place::Pod,
        };
        it.client == Client::new(place, Family::V4, Choice::Random)
    };
    let runs: Vec<_> = runs.iter().filter(is_drawn).collect();
    let mut drawing = String::new();
    {
        let height = HEIGHT / 2 * u32::try_from(runs.len())?;
        let area = SVGBackend::with_string(&mut drawing, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(to_error)?;
        let panels = area.split_evenly((runs.len(), 1));
        for (number, (run, panel)) in runs.into_iter().zip(&panels).enumerate() {
            let title = format!(
                "{}, {}: seconds of connect; dark from {} to {} s",
                run.variant.name(),
                run.client,
                DARK.as_secs(),
                LIGHT.as_secs()
            );
            let mut chart = ChartBuilder::on(panel)
                .caption(title, ("sans-serif", 15))
                .margin(8)
                .x_label_area_size(24)
                .y_label_area_size(60)
                .build_cartesian_2d(
                    0.0..END.as_secs_f64(),
                    LEAST.log10()..(PATIENCE.as_secs_f64() * 1.5).log10(),
                )
                .map_err(to_error)?;
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .y_label_formatter(&|y| format!("{:.4}", 10_f64.powf(*y)))
                .draw()
                .map_err(to_error)?;
            let points = drawn(&run.attempts).map(|it| {
                let took = it.took.unwrap_or(PATIENCE).as_secs_f64().max(LEAST);
                let at = (it.began.as_secs_f64(), took.log10());
                Circle::new(at, 1, colour(number + 1).filled())
            });
            chart.draw_series(points).map_err(to_error)?;
        }
        area.present().map_err(to_error)?;
    }
    Ok(drawing)
}

/// All that took long or failed, and some of the others.
fn drawn(attempts: &[Attempt]) -> impl Iterator<Item = &Attempt> {
    let step = attempts.len().div_ceil(DRAWN).max(1);
    let attempts = attempts.iter().enumerate();
    let is_drawn = move |(number, it): &(usize, &Attempt)| {
        number % step == 0 || it.took.is_none_or(|took| took > QUICK)
    };
    attempts.filter(is_drawn).map(|(_, it)| it)
}
