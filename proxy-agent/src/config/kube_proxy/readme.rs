//! README's tables of settings, which are held against [`super::settings`].

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::field::Kind;
use super::table::{Setting, settings_of};
use super::{KUBE_PROXY, OWN};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// A table of Markdown, between two marks.
fn table(document: (&'static str, &'static str)) -> String {
    let (_, kind) = document;
    let mut text = format!("<!-- settings of {kind} -->\n");
    text.push_str(
        "| setting | type | default | option | at run time | what, and why this default |\n",
    );
    text.push_str("|---|---|---|---|---|---|\n");
    for setting in settings_of(document) {
        let _ = writeln!(text, "{}", row(setting));
    }
    let _ = writeln!(text, "<!-- end of settings of {kind} -->");
    text
}

fn row(setting: &Setting) -> String {
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!("`{text}`"),
    };
    let option = setting.option().map(|option| format!("--{}", option.name));
    let at_run_time = match setting.row.restart {
        None => "yes".to_owned(),
        Some(why) => format!("no: {why}"),
    };
    let (summary, reason) = setting.summary_and_reason();
    format!(
        "| {} | {} | {} | {} | {at_run_time} | {summary} *{reason}* |",
        code(setting.row.path.trim_start_matches("nftables.")),
        kind(setting),
        code(&setting.default_text()),
        code(&option.unwrap_or_default()),
    )
}

fn kind(setting: &Setting) -> String {
    match (setting.access.kind)() {
        Kind::Bool => "true or false".to_owned(),
        Kind::Integer(min, max) => format!("{min} to {max}"),
        Kind::Duration => "duration".to_owned(),
        Kind::Choice(names) => {
            let names: Vec<_> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
            names.join(", ")
        }
        Kind::Texts => "list".to_owned(),
        _ => "text".to_owned(),
    }
}

#[test]
fn readmes_tables_are_those_of_the_settings() {
    let readme = fs::read_to_string(Path::new(README)).unwrap();
    for document in [KUBE_PROXY, OWN] {
        let table = table(document);
        assert!(readme.contains(&table), "README.md lacks:\n{table}");
    }
}
