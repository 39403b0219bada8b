//! The commands that a document names.

/// A command, and the line where it begins.
#[derive(Debug)]
pub(super) struct NamedCommand {
    pub(super) line: usize,
    pub(super) text: String,
}

/// Those behind the prompts of fenced blocks, and those in code spans that begin with one of
/// `programs`.
pub(super) fn commands(document: &str, programs: &[&str]) -> Vec<NamedCommand> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut is_fenced = false;
    let mut lines = (1..).zip(document.lines());
    while let Some((line, text)) = lines.next() {
        if text.starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            prose.push_str(text);
        } else if let Some(command) = behind_prompt(text) {
            let mut command = command.to_owned();
            while command.ends_with('\\') {
                command.pop();
                let Some((_, more)) = lines.next() else { break };
                command.push_str(more.trim_start());
                // A span keeps its line's number.
                prose.push('\n');
            }
            found.push(NamedCommand {
                line,
                text: command,
            });
        }
        prose.push('\n');
    }
    found.extend(spans(&prose).filter(|span| {
        let first = span.text.split(' ').next();
        first.is_some_and(|it| programs.contains(&it)) && span.text.contains(' ')
    }));
    found.sort_by_key(|it| it.line);
    found
}

fn behind_prompt(line: &str) -> Option<&str> {
    line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "))
}

/// Every code span; in a table a `|` of it is escaped.
fn spans(prose: &str) -> impl Iterator<Item = NamedCommand> {
    let mut line = 1;
    let parts = prose.split('`').enumerate();
    parts.filter_map(move |(at, part)| {
        let begins = line;
        line += part.matches('\n').count();
        (at % 2 == 1).then(|| NamedCommand {
            line: begins,
            text: part.replace('\n', " ").replace("\\|", "|"),
        })
    })
}

/// The sections of a document with this depth of heading, below the section of this name.
pub(super) fn sections<'a>(document: &'a str, below: &str, heading: &str) -> Vec<&'a str> {
    let from = document.find(below).map_or("", |at| &document[at..]);
    from.split(heading).skip(1).collect()
}
