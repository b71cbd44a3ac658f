//! Targets on other nodes, which the API server knows. Needs root: a network namespace is entered.

#![cfg(feature = "cluster")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod api_support;
mod pods_support;
mod support;

use api_support::{Api, Reply, ok, recorded};

#[test]
fn a_kubeconfig_that_is_named_goes_before_the_environment_and_is_not_left_for_it() {
    let api = Api::serve(|path, _| match path {
        _ if path.contains("hostnet-k4") => ok("pods-shop.json.gz"),
        _ if path.contains("busy") => Reply::Busy("60"),
        _ => Reply::Json(403, recorded("forbidden-403-anonymous.json")),
    });
    let (good, bad) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(good.path(), api.kubeconfig()).unwrap();
    std::fs::write(bad.path(), "clusters: [").unwrap();
    let source = format!("pid:{}", std::process::id());
    let said = |command: &str, target: &str, file: &std::path::Path, environment: &std::path::Path| {
        let mut run = support::nsprobe();
        run.env("KUBECONFIG", environment).args([command, &source, target, "--kubeconfig"]).arg(file);
        let output = run.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", support::stderr(&output));
        support::stderr(&output)
    };
    for command in ["mtu", "diagnose"] {
        let known = said(command, "pod:shop/hostnet-k4", good.path(), bad.path());
        assert!(known.contains("shop/hostnet-k4 on k4 uses the node's own network"), "{known}");
        let broken = said(command, "pod:shop/hostnet-k4", bad.path(), good.path());
        let file = format!("; --kubeconfig {}: failed to parse", bad.path().display());
        assert!(broken.contains(&file) && broken.lines().count() == 2, "{broken}");
        let missing = said(command, "pod:shop/hostnet-k4", "/none/at/all".as_ref(), good.path());
        assert!(missing.contains("; --kubeconfig /none/at/all: "), "{missing}");
        let refused = said(command, "pod:shop/other", good.path(), bad.path());
        assert!(refused.contains("refused: 403: "), "{refused}");
        let busy = said(command, "pod:shop/busy", good.path(), bad.path());
        assert!(busy.contains("is too busy: 429"), "{busy}");
    }
}
