//! Files with a mistake, and what is said of it.
//!
//! A case in `mistakes.txt` is a name after `==`, the text, and the message after
//! `->`. Where the text has no kind, it gets two lines that do, behind it.

use std::path::Path;

use proxy_agent::config::kube_proxy::parse;

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

#[test]
fn every_mistake_is_reported_with_its_place() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for case in include_str!("mistakes.txt").split("== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, wanted) = rest.split_once("-> ").unwrap();
        let mut text = text.replace("\\t", "\t");
        if !text.contains("kind:") {
            text.push_str(HEADER);
        }
        let found = match parse(&text, Path::new("f")) {
            Ok(parsed) => format!("{parsed:?}"),
            Err(error) => error.to_string(),
        };
        count += 1;
        if found != wanted.trim_end() {
            wrong.push(format!(
                "== {name}\n{}-> {found}\n",
                text.replace(HEADER, "")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 40, "{count}");
}

#[test]
fn a_mistake_is_reported_with_its_file() {
    let error = parse("", Path::new("/etc/proxy-agent/config.conf")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/etc/proxy-agent/config.conf:1:1: there is no document of kind \
         KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1)"
    );
}
