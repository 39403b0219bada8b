//! What is read out of a text, and where mistakes are found.

use std::fmt::Write;

use crate::source::files::document::{ApiObject, Document, DocumentError, Format, parse};

fn yaml(text: &str) -> Result<Document, DocumentError> {
    parse(text, Format::Yaml)
}

/// Kind and name of each object.
fn names(document: &Document) -> Vec<String> {
    let name = |object: &ApiObject| match object {
        ApiObject::Service(object) => format!("Service {}", object.metadata.name.as_ref().unwrap()),
        ApiObject::EndpointSlice(object) => {
            format!("EndpointSlice {}", object.metadata.name.as_ref().unwrap())
        }
        ApiObject::Node(object) => format!("Node {}", object.metadata.name.as_ref().unwrap()),
        ApiObject::Pod(object) => format!("Pod {}", object.metadata.name.as_ref().unwrap()),
        ApiObject::ServiceCidr(object) => {
            format!("ServiceCIDR {}", object.metadata.name.as_ref().unwrap())
        }
    };
    document.objects.iter().map(name).collect()
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\n";

fn service(name: &str) -> String {
    SERVICE.replace("NAME", name)
}

#[test]
fn documents_are_separated_however_they_are_marked() {
    let (a, b, c) = (service("a"), service("b"), service("c"));
    let cases = [
        (format!("{a}---\n{b}---\n{c}"), "abc"),
        (format!("---\n{a}---\n---\n# nothing\n---\n{b}---\n"), "ab"),
        (format!("{a}...\n{b}...\n"), "ab"),
        (format!("%YAML 1.2\n---\n{a}...\n%YAML 1.2\n---\n{b}"), "ab"),
        (
            format!(
                "--- # first\n{a}--- {{apiVersion: v1, kind: Service, metadata: {{name: b}}}}\n{c}"
            )
            .replace(&format!("\n{c}"), "\n---\n")
                + &c,
            "abc",
        ),
        (format!("\u{feff}{a}").replace('\n', "\r\n"), "a"),
        (
            format!("{a}  annotations: {{x: 1}}\n").replace("{name: a}", "\n  name: a"),
            "a",
        ),
        (String::new(), ""),
        ("# only a comment\n".to_owned(), ""),
        ("---\n...\n---\n".to_owned(), ""),
    ];
    for (text, expected) in cases {
        let document = yaml(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let expected: Vec<_> = expected.chars().map(|c| format!("Service {c}")).collect();
        assert_eq!(names(&document), expected, "{text}");
    }
}

#[test]
fn a_line_inside_a_block_scalar_that_is_indented_is_no_marker() {
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    x: |\n      ---\n      kind: Node\n";
    assert_eq!(names(&yaml(text).unwrap()), ["Service a"]);
}

#[test]
fn lists_hold_objects_of_several_kinds_and_lists() {
    let text = r#"
apiVersion: v1
items:
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints: null
  kind: EndpointSlice
  metadata: {name: slice}
  ports: null
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: [1, {a: b}], items: 7}
- {apiVersion: v1, kind: Node, metadata: {name: node}}
- apiVersion: v1
  kind: List
  items: [{apiVersion: v1, kind: Service, metadata: {name: inner}, spec: {ports: [{port: 1, targetPort: http}, {port: 2, targetPort: 8080}]}}]
kind: List
metadata: {resourceVersion: ""}
"#;
    let document = yaml(text).unwrap();
    assert_eq!(
        names(&document),
        ["EndpointSlice slice", "Node node", "Service inner"]
    );
    let ignored: Vec<_> = document.ignored.into_iter().collect();
    assert_eq!(ignored, [("apps/v1".to_owned(), "Deployment".to_owned())]);
}

#[test]
fn an_empty_list_is_empty() {
    for items in ["items: []", "items:", ""] {
        let document = yaml(&format!("apiVersion: v1\nkind: List\n{items}\n")).unwrap();
        assert_eq!(document, Document::default(), "{items}");
    }
}

#[test]
fn kinds_of_the_same_name_in_other_groups_are_ignored() {
    let text = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: none}\n";
    let document = yaml(text).unwrap();
    assert!(document.objects.is_empty());
    assert_eq!(document.ignored.len(), 1);
}

#[test]
fn json_is_read_as_json() {
    let text = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n\t\t{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"a\"}}]}";
    let document = parse(text, Format::Json).unwrap();
    assert_eq!(names(&document), ["Service a"]);
}

#[test]
fn a_mistake_is_found_at_its_place_and_with_its_reason() {
    let good = service("good");
    // What the text is, where the mistake is, and a word of the reason.
    let cases = [
        ("kind: Service\n  apiVersion: v1\n".to_owned(), (2, 13), "mapping"),
        (format!("{good}---\nkind: [\n"), (5, 7), "unclosed bracket"),
        (
            format!("{good}---\n{}spec:\n  ports:\n  - name: a\n    port: http\n", service("b")),
            (11, 11),
            "i32",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: [a]\n".to_owned(),
            (7, 11),
            "string",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nmetadata: {name: b}\n".to_owned(),
            (4, 1),
            "duplicate",
        ),
        (format!("{good}---\njust text\n"), (4, 1), "expected a Kubernetes object"),
        (format!("{good}---\n- a\n"), (4, 1), "expected a Kubernetes object"),
        (format!("{good}---\nkind: Service\n"), (4, 1), "needs apiVersion and kind"),
        ("apiVersion: v1\nkind: Service\n".to_owned(), (1, 1), "needs a metadata.name"),
        ("apiVersion: v1\nkind: Service\nspec: {ports: *x}\n".to_owned(), (3, 15), "unknown value"),
    ];
    for (text, place, reason) in cases {
        let error = yaml(&text).unwrap_err();
        assert_eq!((error.line, error.column), place, "{error}\n{text}");
        assert!(error.reason.contains(reason), "{error}\n{text}");
    }
}

#[test]
fn a_mistake_in_json_is_found_at_its_place() {
    let text = "{\n  \"apiVersion\": \"v1\", \"kind\": \"Node\",\n  \"metadata\": {\"name\": 7}}";
    let error = parse(text, Format::Json).unwrap_err();
    assert_eq!((error.line, error.column), (3, 24), "{error}");
    assert!(error.reason.contains("expected a string"), "{error}");
    assert!(!error.reason.contains("column"), "{error}");
    let error = parse("{\n", Format::Json).unwrap_err();
    assert_eq!((error.line, error.column), (2, 0), "{error}");
}

#[test]
fn a_text_that_unfolds_without_end_is_refused() {
    let mut text =
        String::from("apiVersion: v1\nkind: Service\nmetadata: {name: a}\na0: &a0 [x, x]\n");
    for level in 1..40 {
        let below = level - 1;
        let _ = writeln!(text, "a{level}: &a{level} [*a{below}, *a{below}]");
    }
    let error = yaml(&text).unwrap_err();
    assert!(error.line > 4, "{error}");
}

#[test]
fn a_text_that_is_nested_without_end_is_refused() {
    let text = format!(
        "apiVersion: v1\nkind: Service\nspec: {}",
        "[".repeat(100_000)
    );
    yaml(&text).unwrap_err();
    let text = format!("{{\"spec\": {}", "[".repeat(100_000));
    parse(&text, Format::Json).unwrap_err();
}

#[test]
fn a_file_may_have_as_many_objects_as_it_has_room_for() {
    let items =
        "- {apiVersion: v1, kind: Service, metadata: {name: a, labels: {a: b, c: d, e: f, g: h, i: j, k: l, m: n, o: p}}}\n"
            .repeat(12_000);
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    assert_eq!(yaml(&text).unwrap().objects.len(), 12_000);
}
