//! Plots of figures, as SVG: lines over the number of Services where there are several
//! numbers, bars where not.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use plotters::{
    coord::Shift,
    coord::types::RangedCoordf64,
    prelude::{
        BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, DrawingArea,
        IntoDrawingArea as _, PathElement, RGBColor, Rectangle, SVGBackend, SeriesLabelPosition,
        Text, WHITE,
    },
    series::LineSeries,
    style::IntoFont as _,
};

use super::{
    Figure, Position, Row,
    markdown::{number, thousands},
};

pub(in super::super) const WIDTH: u32 = 860;
pub(in super::super) const HEIGHT: u32 = 420;
/// The height of a bar with its space.
const BAR: u32 = 24;
/// What a plot of bars has above and below them.
const FRAME: u32 = 60;
/// Where bars begin: their labels are left of it.
const BARS_FROM: i32 = 300;
/// Values that are further apart than this are shown by their logarithms.
const FAR: f64 = 20.0;
/// Told apart by people who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
];

/// One plot of a figure.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Plot {
    /// The name of its file.
    pub(in super::super) file: String,
    pub(in super::super) title: String,
    unit: String,
    series: Vec<Series>,
}

/// What belongs together.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    label: String,
    /// The number of Services, the value, and its quartiles.
    points: Vec<(u32, f64, [f64; 2])>,
}

/// A figure's plots, one for each aspect.
pub(in super::super) fn plots(figure: &Figure) -> Vec<Plot> {
    let mut plots: Vec<Plot> = Vec::new();
    let sizes: BTreeSet<_> = figure.rows.iter().filter_map(|row| row.services).collect();
    // Lines of every position would hide each other: over sizes, the last stands for all.
    let is_shown =
        |row: &&Row| sizes.len() < 2 || matches!(place(row), None | Some(Position::Last));
    for row in figure.rows.iter().filter(is_shown) {
        let title = format!("{}: {}", figure.title, row.aspect);
        let place = plots.iter().position(|plot| plot.title == title);
        let place = place.unwrap_or_else(|| {
            plots.push(Plot {
                file: format!("{}-{}.svg", figure.name, file_name(&row.aspect)),
                title,
                unit: row.unit.clone(),
                series: Vec::new(),
            });
            plots.len() - 1
        });
        plots[place].add(row);
    }
    plots
}

/// The position of a Service; the only one of all is the last as well.
fn place(row: &Row) -> Option<Position> {
    let is_only = row.services == Some(1);
    row.position
        .map(|it| if is_only { Position::Last } else { it })
}

fn file_name(aspect: &str) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    aspect.chars().map(plain).collect()
}

impl Plot {
    fn add(&mut self, row: &Row) {
        let mut label = format!("{}, {}", row.variant, row.to);
        if let Some(position) = place(row) {
            label = format!("{label}, {position}");
        }
        let value = &row.value;
        let point = (
            row.services.unwrap_or_default(),
            value.median,
            [value.p25, value.p75],
        );
        match self.series.iter_mut().find(|it| it.label == label) {
            Some(series) => series.points.push(point),
            None => self.series.push(Series {
                label,
                points: vec![point],
            }),
        }
    }

    /// The drawing.
    pub(in super::super) fn draw(&self) -> Result<String> {
        let is_over_services = self.series.iter().any(|it| it.points.len() > 1);
        let height = if is_over_services {
            HEIGHT
        } else {
            FRAME + BAR * u32::try_from(self.series.len())?
        };
        let mut drawing = String::new();
        {
            let area = SVGBackend::with_string(&mut drawing, (WIDTH, height)).into_drawing_area();
            let drawn = area.fill(&WHITE).map_err(to_error).and_then(|()| {
                if is_over_services {
                    self.draw_lines(&area)
                } else {
                    self.draw_bars(&area)
                }
            });
            drawn.with_context(|| format!("plot of {}", self.title))?;
            area.present().map_err(to_error)?;
        }
        Ok(drawing)
    }

    fn draw_lines(&self, area: &Area) -> Result<()> {
        let scale = Scale::of(&self.values().collect::<Vec<_>>());
        let sizes = || self.points().map(|(services, ..)| log(services));
        let (left, right) = (
            sizes().fold(f64::MAX, f64::min),
            sizes().fold(0.0, f64::max),
        );
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{}, {}", self.title, self.unit), ("sans-serif", 17))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(70)
            .margin_right(260)
            .build_cartesian_2d(left..right.max(left + 0.1), scale.range())
            .map_err(to_error)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("Services")
            .x_label_formatter(&|x| number_of_services(*x))
            .y_label_formatter(&|y| number(scale.back(*y)))
            .draw()
            .map_err(to_error)?;
        for (number, series) in self.series.iter().enumerate() {
            draw_line(&mut chart, scale, number, series)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::Coordinate(525, 10))
            .border_style(WHITE)
            .draw()
            .map_err(to_error)
    }

    fn draw_bars(&self, area: &Area) -> Result<()> {
        let longest = self.points().map(|(_, value, _)| value).fold(0.0, f64::max);
        let room = f64::from(WIDTH) - f64::from(BARS_FROM) - 120.0;
        let font = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
        let title = format!("{}, {}", self.title, self.unit);
        area.draw(&Text::new(title, (12, 14), font(17)))
            .map_err(to_error)?;
        for (place, series) in (0_i32..).zip(&self.series) {
            let value = series.points[0].1;
            let top = 44 + place * BAR.cast_signed();
            let end = BARS_FROM + pixels(value / longest.max(f64::MIN_POSITIVE) * room);
            let bar = [(BARS_FROM, top), (end.max(BARS_FROM + 1), top + 16)];
            let style = colour(usize::try_from(place)?).filled();
            area.draw(&Rectangle::new(bar, style)).map_err(to_error)?;
            let label = Text::new(series.label.clone(), (12, top), font(14));
            area.draw(&label).map_err(to_error)?;
            let value = Text::new(number(value), (end + 8, top), font(14));
            area.draw(&value).map_err(to_error)?;
        }
        Ok(())
    }

    fn points(&self) -> impl Iterator<Item = (u32, f64, [f64; 2])> {
        self.series.iter().flat_map(|it| it.points.iter().copied())
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.points()
            .flat_map(|(_, value, [low, high])| [value, low, high])
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A line through medians, with a stroke between the quartiles of each.
fn draw_line(chart: &mut Chart, scale: Scale, number: usize, series: &Series) -> Result<()> {
    let colour = colour(number);
    let at = |services: u32, value: f64| (log(services), scale.to(value));
    let line = series.points.iter();
    let line = line.map(|(services, value, _)| at(*services, *value));
    chart
        .draw_series(LineSeries::new(line, colour.stroke_width(2)))
        .map_err(to_error)?
        .label(series.label.clone())
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    let strokes = series.points.iter().map(|(services, _, [low, high])| {
        PathElement::new([at(*services, *low), at(*services, *high)], colour)
    });
    chart.draw_series(strokes).map_err(to_error)?;
    let points = series.points.iter();
    let points =
        points.map(|(services, value, _)| Circle::new(at(*services, *value), 3, colour.filled()));
    chart.draw_series(points).map_err(to_error)?;
    Ok(())
}

/// How values become heights.
#[derive(Clone, Copy, Debug)]
struct Scale {
    is_logarithmic: bool,
    lowest: f64,
    highest: f64,
}

impl Scale {
    fn of(values: &[f64]) -> Self {
        let lowest = values.iter().copied().fold(f64::MAX, f64::min);
        let highest = values
            .iter()
            .copied()
            .fold(0.0, f64::max)
            .max(f64::MIN_POSITIVE);
        Self {
            is_logarithmic: lowest > 0.0 && highest / lowest > FAR,
            lowest,
            highest,
        }
    }

    fn range(self) -> std::ops::Range<f64> {
        if self.is_logarithmic {
            self.to(self.lowest * 0.8)..self.to(self.highest * 1.2)
        } else {
            0.0..self.highest * 1.1
        }
    }

    fn to(self, value: f64) -> f64 {
        if self.is_logarithmic {
            value.log10()
        } else {
            value
        }
    }

    fn back(self, height: f64) -> f64 {
        if self.is_logarithmic {
            10_f64.powf(height)
        } else {
            height
        }
    }
}

fn log(services: u32) -> f64 {
    f64::from(services.max(1)).log10()
}

/// The colour of one of several.
pub(in super::super) fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

#[expect(clippy::cast_possible_truncation, reason = "pixels of a plot are few")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the place on the axis is of a number of Services"
)]
fn number_of_services(place: f64) -> String {
    thousands(10_f64.powf(place).round() as u32)
}

/// The library's errors borrow what they are about.
pub(in super::super) fn to_error(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::report;
    use super::*;

    #[test]
    fn an_aspect_is_a_plot_of_bars_at_one_size() {
        let plots = plots(&report().figures[0]);
        let files: Vec<_> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!(files, ["connect-rate.svg", "connect-p99.svg"]);
        let drawing = plots[0].draw().unwrap();
        assert!(drawing.starts_with("<svg"), "{drawing}");
        assert!(drawing.contains("nftables, ClusterIP, first"), "{drawing}");
    }

    #[test]
    fn an_aspect_is_a_plot_of_lines_over_sizes() {
        let mut figure = report().figures.remove(0);
        let mut larger = figure.rows.clone();
        for row in &mut larger {
            row.services = Some(30_000);
            row.position = row.position.map(|_| Position::Last);
        }
        for row in &mut figure.rows {
            row.services = Some(1);
        }
        figure.rows.extend(larger);
        let plot = plots(&figure).remove(0);
        let labels: Vec<_> = plot.series.iter().map(|it| it.label.as_str()).collect();
        assert_eq!(labels, ["no proxy, ClusterIP", "nftables, ClusterIP, last"]);
        assert_eq!(plot.series[1].points.len(), 2);
        let drawing = plot.draw().unwrap();
        assert!(drawing.contains("<polyline"), "{drawing}");
        assert!(drawing.contains("Services"), "{drawing}");
    }

    #[test]
    fn values_that_are_far_apart_are_shown_by_logarithms() {
        assert!(Scale::of(&[1.0, 100.0]).is_logarithmic);
        assert!(!Scale::of(&[0.0, 100.0]).is_logarithmic);
        let scale = Scale::of(&[1.0, 100.0]);
        assert!((scale.back(scale.to(42.0)) - 42.0).abs() < 1e-9);
    }
}
