//! The report as `docs/BENCHMARKS.md`.

use std::fmt::Write as _;

use super::{Figure, Goal, Machine, Report, Row, Spread, svg};

/// The whole page; plots are in the folder `plots`, as the page sees it.
pub(in super::super) fn page(report: &Report, plots: &str) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = write_page(&mut page, report, plots);
    page
}

fn write_page(page: &mut String, report: &Report, plots: &str) -> std::fmt::Result {
    writeln!(page, "# Benchmarks\n")?;
    writeln!(
        page,
        "Generated from the JSON of `{}` by `cargo xtask bench --report FILE`; not edited by \
         hand.\n",
        report.command
    )?;
    let Report { machine, .. } = report;
    writeln!(
        page,
        "- version {}, commit {}",
        report.version, report.commit
    )?;
    writeln!(page, "- {}", this_machine(machine))?;
    let kind = if report.quick { ", a quick run" } else { "" };
    writeln!(page, "- {}, {} s{kind}\n", report.date, report.seconds)?;
    writeln!(page, "{TERMS}")?;
    if report.figures.iter().any(|figure| !figure.goals.is_empty()) {
        writeln!(
            page,
            "## Goals\n\n| figure | goal | found | |\n|---|---|---|---|"
        )?;
        for figure in &report.figures {
            for Goal { text, found, met } in &figure.goals {
                let verdict = if *met { "met" } else { "**missed**" };
                writeln!(page, "| {} | {text} | {found} | {verdict} |", figure.title)?;
            }
        }
        writeln!(page)?;
        write_missed(page, &report.figures)?;
    }
    for figure in &report.figures {
        write_figure(page, figure, machine, plots)?;
    }
    Ok(())
}

/// Why goals are missed, for each figure.
fn write_missed(page: &mut String, figures: &[Figure]) -> std::fmt::Result {
    let missed: Vec<_> = figures
        .iter()
        .filter(|figure| figure.goals.iter().any(|goal| !goal.met))
        .filter(|figure| !figure.missed.is_empty())
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    writeln!(page, "### Why goals are missed, and what to try next\n")?;
    for figure in missed {
        writeln!(page, "- *{}*: {}", figure.title, figure.missed)?;
    }
    writeln!(page)
}

const TERMS: &str = "\
Each value is the median of so many runs, with the quartiles in brackets. What is compared runs \
in turns, in another order each round, in labs that stand side by side; \"of limit\" is the \
value by that of the limit in the same round, the median of all rounds. \"iptables\" and \
\"nftables\" are rules of the form that kube-proxy 1.36 writes, loaded by `iptables-restore` (of \
the nft backend) and `nft`; kube-proxy itself does not run, and iptables is left out where \
`iptables-restore` takes minutes. \"TC\", \"XDP\" and \"socket\" are \
this agent: `--socket-path off --xdp never`, `--socket-path off --xdp always`, and `--socket-path \
on`.
";

/// A machine in a line.
pub(in super::super) fn this_machine(machine: &Machine) -> String {
    let tenths = machine.memory_bytes * 10 / (1 << 30);
    let priority = match machine.priority {
        0 => String::new(),
        priority => format!("; real-time priority {priority} (`chrt -f {priority}`)"),
    };
    format!(
        "{}, {} cores, {}.{} GiB, Linux {}; load {:.1} before, {:.1} after{priority}",
        machine.cpu,
        machine.cores,
        tenths / 10,
        tenths % 10,
        machine.kernel,
        machine.load[0],
        machine.load[1]
    )
}

fn write_figure(
    page: &mut String,
    figure: &Figure,
    machine: &Machine,
    plots: &str,
) -> std::fmt::Result {
    writeln!(page, "## {}\n\n{}\n", figure.title, figure.how)?;
    for plot in svg::plots(figure) {
        writeln!(page, "![{}]({plots}/{})\n", plot.title, plot.file)?;
    }
    writeln!(
        page,
        "`{}`, {} cores of {}, Linux {}, load {:.1} to {:.1}:\n",
        figure.command, machine.cores, machine.cpu, machine.kernel, figure.load[0], figure.load[1]
    )?;
    page.push_str(&table(figure));
    writeln!(page)
}

/// A figure's rows: one line for what is compared, a column for each aspect.
pub(in super::super) fn table(figure: &Figure) -> String {
    let aspects = aspects(&figure.rows);
    let has_limit = figure.rows.iter().any(|row| row.of_limit.is_some());
    let mut head = vec!["", "", "Services", "position"];
    let headings: Vec<_> = aspects
        .iter()
        .map(|(aspect, unit)| format!("{aspect}, {unit}"))
        .collect();
    for heading in &headings {
        head.push(heading);
        if has_limit {
            head.push("of limit");
        }
    }
    head.push("runs");
    let mut text = line(&head);
    text.push_str(&line(&vec!["---"; head.len()]));
    for rows in subjects(&figure.rows) {
        let first = rows[0];
        let mut cells = vec![
            first.variant.clone(),
            first.to.clone(),
            first.services.map(thousands).unwrap_or_default(),
            first.position.map(|it| it.to_string()).unwrap_or_default(),
        ];
        for (aspect, _) in &aspects {
            let row = rows.iter().find(|row| row.aspect == *aspect);
            cells.push(row.map(|row| shown(&row.value)).unwrap_or_default());
            if has_limit {
                let ratio = row.and_then(|row| row.of_limit);
                cells.push(
                    ratio
                        .map(|it| format!("{:.3}", it.median))
                        .unwrap_or_default(),
                );
            }
        }
        cells.push(first.value.runs.to_string());
        text.push_str(&line(&cells));
    }
    text
}

/// The aspects of some rows with their units, in the order in which they come.
fn aspects(rows: &[Row]) -> Vec<(&str, &str)> {
    let mut aspects = Vec::new();
    for row in rows {
        let aspect = (row.aspect.as_str(), row.unit.as_str());
        if !aspects.contains(&aspect) {
            aspects.push(aspect);
        }
    }
    aspects
}

/// Rows that differ in their aspect alone, together.
fn subjects(rows: &[Row]) -> Vec<Vec<&Row>> {
    let subject = |row: &Row| {
        (
            row.variant.clone(),
            row.to.clone(),
            row.services,
            row.position,
        )
    };
    let mut subjects: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match subjects
            .iter_mut()
            .find(|it| subject(it[0]) == subject(row))
        {
            Some(found) => found.push(row),
            None => subjects.push(vec![row]),
        }
    }
    subjects
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<_> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The median, and the quartiles where there are some.
fn shown(spread: &Spread) -> String {
    let median = number(spread.median);
    if spread.runs < 2 {
        return median;
    }
    format!("{median} ({}–{})", number(spread.p25), number(spread.p75))
}

/// A number with three digits at least, and no more than are of use.
pub(in super::super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.parse() {
        Ok(whole) if decimals == 0 => thousands(whole),
        _ => text,
    }
}

/// With commas between thousands.
pub(in super::super) fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Position, model::tests::report};
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let texts = [0.0123, 1.5, 42.0, 980.4, 12_345_678.0].map(number);
        assert_eq!(texts, ["0.012", "1.50", "42.0", "980", "12,345,678"]);
    }

    #[test]
    fn aspects_of_one_subject_share_a_line() {
        let table = table(&report().figures[0]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[0],
            "|  |  | Services | position | rate, 1/s | of limit | p99, µs | of limit | runs |"
        );
        assert_eq!(lines.len(), 4);
        assert!(
            lines[3].starts_with(
                "| nftables | ClusterIP | 1,000 | first | 9,000 (8,500–9,500) | 0.900 |"
            )
        );
        assert_eq!(report().figures[0].rows[2].position, Some(Position::First));
    }

    #[test]
    fn a_page_names_machine_command_and_load_beside_each_figure() {
        let page = page(&report(), "benchmarks");
        for part in [
            "# Benchmarks",
            "AMD EPYC, 2 cores, 8.0 GiB, Linux 6.18.0; load 0.1 before, 0.5 after",
            "`cargo xtask bench --only connect`, 2 cores of AMD EPYC, Linux 6.18.0, load 0.1 to 0.4",
            "| Connect, request, close | TC at least 0.95 of the limit | 0.90 | **missed** |",
            "- *Connect, request, close*: Each packet passes four programs.",
            "![Connect, request, close: rate](benchmarks/connect-rate.svg)",
        ] {
            assert!(page.contains(part), "{part} in:\n{page}");
        }
    }
}
