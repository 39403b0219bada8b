//! The time of `connect` over the time at which it began.

use anyhow::Result;
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, IntoDrawingArea as _, SVGBackend, WHITE,
};

use super::{
    super::report::svg::{HEIGHT, WIDTH, colour, to_error},
    DARK, END, LIGHT, PATIENCE, Place, Run,
};

/// Values from a tenth of a millisecond on, by their logarithms.
const LEAST: f64 = 1e-4;

/// Draws the connections that began in a Pod, a panel for each variant.
pub(super) fn draw(runs: &[Run]) -> Result<String> {
    let runs: Vec<_> = runs.iter().filter(|it| it.place == Place::Pod).collect();
    let mut drawing = String::new();
    {
        let height = HEIGHT / 2 * u32::try_from(runs.len())?;
        let area = SVGBackend::with_string(&mut drawing, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(to_error)?;
        let panels = area.split_evenly((runs.len(), 1));
        for (number, (run, panel)) in runs.into_iter().zip(&panels).enumerate() {
            let title = format!(
                "{}: seconds of connect; dark from {} to {} s",
                run.variant.name(),
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
            let points = run.attempts.iter().map(|it| {
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
