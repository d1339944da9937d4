//! The order example's activities, made by the SDK: `scripts/guests` builds them.

use std::path::{Path, PathBuf};

use relive_activity::{ActivityRegistry, ActivitySource, DispatchLimits, Manifest};
use relive_core::Namespace;
use relive_core::ports::ActivityRunner;

use crate::support::{admit, completed, task};

/// Where the guests are: `RELIVE_GUESTS`, else in the target folder.
fn guests() -> PathBuf {
    let target = || match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    };
    let folder = std::env::var_os("RELIVE_GUESTS").map_or_else(|| target().join("guests/out"), PathBuf::from);
    assert!(folder.is_dir(), "{}: no guests: run scripts/guests first", folder.display());
    folder
}

#[tokio::test]
async fn the_order_example_does_each_step_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = guests().join("order");
    for file in std::fs::read_dir(&example).expect("the example") {
        let file = file.expect("a file").path();
        if file.is_file() {
            std::fs::copy(&file, folder.path().join(file.file_name().expect("a name"))).expect("copied");
        }
    }
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|e| panic!("{e}"));
    let missing = manifest.check_files().expect_err("the ledger's directory is missing").to_string();
    assert!(missing.contains("ledger"), "{missing}");
    std::fs::create_dir(folder.path().join("ledger")).expect("a folder");
    manifest.check_files().unwrap_or_else(|e| panic!("{e}"));

    let first = manifest.activities.first().expect("an activity");
    let ActivitySource::Wasm { component, .. } = &first.source else { panic!("{first:?}") };
    let (host, loaded) = admit(&std::fs::read(component).expect("the component"));
    let names: Vec<&str> = manifest.activities.iter().map(|a| a.name.as_str()).collect();
    let described = host.check(&loaded, &names).unwrap_or_else(|e| panic!("failed to {e}"));
    assert!(described.iter().all(|d| d.input_schema.is_some()));
    let registry = ActivityRegistry::builder(DispatchLimits::default()).wasm(host).build();
    for activity in &manifest.activities {
        let ActivitySource::Wasm { grants, .. } = &activity.source else { panic!("{activity:?}") };
        let put = registry.put_wasm(&Namespace::default(), &activity.name, loaded.clone(), grants);
        put.unwrap_or_else(|e| panic!("failed to {e}"));
    }
    for attempt in 1..3 {
        let mut again = task("reserve", r#"{"sku":"tea","quantity":2}"#);
        again.attempt = attempt;
        let result = registry.run(again).await.map(completed).unwrap_or_else(|e| panic!("{e}"));
        assert!(result.as_str().starts_with("\"reservation-tea-"), "{result}");
    }
    let ledger = std::fs::read_to_string(folder.path().join("ledger/ledger.txt")).expect("the ledger");
    assert_eq!(ledger.lines().count(), 1, "{ledger}");
    let failure = registry.run(task("charge", r#"{"card":"4000 0002","cents":5}"#)).await.expect_err("declined");
    assert!(failure.code == "card-declined" && !failure.retryable, "{failure}");
}
