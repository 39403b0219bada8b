//! What an expression of `PromQL` asks for, by its tokens: whether it is one at all is for
//! promtool to say.

use std::collections::BTreeSet;

/// Before labels in parentheses.
const GROUPING: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
/// Words that are neither metrics nor functions.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// An expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) selectors: Vec<Selector>,
    /// Labels by which it aggregates or joins.
    pub(crate) grouping: BTreeSet<String>,
}

/// A metric, and what its labels have to be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<[String; 3]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Other(char),
}

impl Query {
    pub(crate) fn of(expression: &str) -> Self {
        let mut query = Self::default();
        let tokens = tokens(expression);
        let mut rest = tokens.as_slice();
        while let [first, behind @ ..] = rest {
            rest = behind;
            let Token::Word(word) = first else { continue };
            if GROUPING.contains(&word.as_str()) {
                let end = behind.iter().position(|it| *it == Token::Other(')'));
                let (labels, after) = behind.split_at(end.unwrap_or_default());
                query
                    .grouping
                    .extend(labels.iter().filter_map(|it| match it {
                        Token::Word(label) => Some(label.clone()),
                        _ => None,
                    }));
                rest = after;
            } else if is_metric(word, behind.first()) {
                let (matchers, after) = matchers(behind);
                let metric = word.clone();
                query.selectors.push(Selector { metric, matchers });
                rest = after;
            }
        }
        query
    }
}

fn is_metric(word: &str, next: Option<&Token>) -> bool {
    // A variable of Grafana stands for one.
    let is_number = word.starts_with(|first: char| first.is_ascii_digit() || first == '$');
    let is_operator = OPERATORS.contains(&word);
    let is_called = match next {
        Some(Token::Other('(')) => true,
        Some(Token::Word(next)) => GROUPING[..2].contains(&next.as_str()),
        _ => false,
    };
    !is_number && !is_operator && !is_called
}

/// What is in the braces that follow, and the rest behind them.
fn matchers(tokens: &[Token]) -> (Vec<[String; 3]>, &[Token]) {
    let end = tokens.iter().position(|it| *it == Token::Other('}'));
    let (Some(Token::Other('{')), Some(end)) = (tokens.first(), end) else {
        return (Vec::new(), tokens);
    };
    let (inside, rest) = tokens.split_at(end);
    let matchers = inside[1..].split(|it| *it == Token::Other(','));
    let matchers = matchers.filter_map(|matcher| match matcher {
        [Token::Word(label), operator @ .., Token::Text(value)] => {
            let operator = operator.iter().map(|it| match it {
                Token::Other(char) => *char,
                other => panic!("an operator, not {other:?}"),
            });
            Some([label.clone(), operator.collect(), value.clone()])
        }
        [] => None,
        other => panic!("a matcher, not {other:?}"),
    });
    (matchers.collect(), rest)
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let in_word = |char: char| char.is_ascii_alphanumeric() || "_:$".contains(char);
        let length = if first == '"' {
            let inside = rest[1..].find('"').expect("an end of the text");
            tokens.push(Token::Text(rest[1..=inside].to_owned()));
            inside + 2
        } else if in_word(first) {
            let length = rest.find(|char| !in_word(char)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            tokens.push(Token::Other(first));
            first.len_utf8()
        };
        rest = rest[length..].trim_start();
    }
    tokens
}

#[test]
fn metrics_are_told_from_functions_labels_and_numbers() {
    let query = Query::of(
        r#"histogram_quantile(0.99, sum by (le) (rate(h_bucket{job="j", code=~"2.."}[5m] offset 1h))) > 2
           unless max(m) without (a, b) <= 3 * time()"#,
    );
    let matchers = [["job", "=", "j"], ["code", "=~", "2.."]];
    assert_eq!(
        query.selectors,
        [
            Selector {
                metric: "h_bucket".to_owned(),
                matchers: matchers.map(|it| it.map(str::to_owned)).to_vec(),
            },
            Selector {
                metric: "m".to_owned(),
                matchers: Vec::new(),
            },
        ]
    );
    let grouping: Vec<_> = query.grouping.iter().collect();
    assert_eq!(grouping, ["a", "b", "le"]);
}
