//! Components, versions, activities and queues.

use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{
        Activation, ActivationKind, ActivityRow, Canary, CanaryLimits, ComponentMeta, Implementation, PreflightRow,
        QueueLimits, QueueRow, RateLimit, StoreErrorKind, VersionRow,
    },
};

use super::{Store, support::json};

pub(super) fn version(workflow: &str, code: &str) -> VersionRow {
    VersionRow {
        workflow: workflow.into(),
        version: 0,
        digest: Digest::of(code.as_bytes()),
        export: workflow.into(),
        input_schema: Some(json("{\"type\":\"object\"}")),
        output_schema: None,
        active: false,
        deployed_at: Timestamp(5),
        author: Some("ada".into()),
        note: None,
        signed_by: None,
    }
}

fn activation(workflow: &str, version: u32) -> Activation {
    Activation {
        workflow: workflow.into(),
        number: 0,
        kind: ActivationKind::Activated,
        version,
        canary: None,
        at: Timestamp(7),
        author: None,
        reason: Some("because".into()),
    }
}

pub fn components(store: &dyn Store) {
    let bytes = vec![7; 300_000];
    let meta = ComponentMeta {
        digest: Digest::of(&bytes),
        size: 300_000,
        inspection: json("{\"kind\":1}"),
        added_at: Timestamp(9),
    };
    assert_eq!(store.component(&meta.digest), Ok(None));
    assert_eq!(store.component_meta(&meta.digest), Ok(None));
    store.put_component(&meta, &bytes).unwrap();
    store.put_component(&ComponentMeta { added_at: Timestamp(10), ..meta.clone() }, &bytes).unwrap();
    assert_eq!(store.component(&meta.digest).unwrap().unwrap(), bytes);
    assert_eq!(store.component_meta(&meta.digest), Ok(Some(meta.clone())));
    assert_eq!(store.put_component(&meta, b"others").unwrap_err().kind, StoreErrorKind::Corrupt);
}

pub fn versions_are_numbered(store: &dyn Store) {
    let ns = Namespace::default();
    let one = store.add_version(&ns, &version("order", "1")).unwrap();
    assert_eq!(one, VersionRow { version: 1, ..version("order", "1") });
    let noted = VersionRow { note: Some("faster".into()), author: None, ..version("order", "2") };
    let two = store.add_version(&ns, &noted).unwrap();
    assert_eq!(two, VersionRow { version: 2, ..noted });
    assert_eq!(store.add_version(&ns, &version("bill", "1")).unwrap().version, 1);
    let all: Vec<_> = store.versions(&ns, None).unwrap().iter().map(|v| (v.workflow.to_string(), v.version)).collect();
    assert_eq!(all, [("bill".to_owned(), 1), ("order".to_owned(), 1), ("order".to_owned(), 2)]);
    // The same code again is the same version, as it was told of first.
    let again = VersionRow { author: Some("bob".into()), deployed_at: Timestamp(9), ..version("order", "1") };
    assert_eq!(store.add_version(&ns, &again).unwrap(), one);
    assert_eq!(store.versions(&ns, Some("order")).unwrap(), [one, two]);
    // The same component under another export is another version.
    let other = VersionRow { export: "order2".into(), ..version("order", "1") };
    assert_eq!(store.add_version(&ns, &other).unwrap().version, 3);
    assert_eq!(store.versions(&Namespace::new("other").unwrap(), None), Ok(Vec::new()));
}

pub fn activations_follow_each_other(store: &dyn Store) {
    let (ns, elsewhere) = (Namespace::default(), Namespace::new("other").unwrap());
    assert_eq!(store.activate(&ns, 0, &activation("order", 1)), Ok(None), "there is no such version");
    for code in ["1", "2"] {
        store.add_version(&ns, &version("order", code)).unwrap();
    }
    assert_eq!(store.standing(&ns, "order"), Ok(None), "nothing is active by being there");
    let first = store.activate(&ns, 0, &activation("order", 1)).unwrap().unwrap();
    assert_eq!(first, Activation { number: 1, ..activation("order", 1) });
    let canary = Canary { version: 2, share: 1_000, limits: CanaryLimits { bad_percent: 5, min_runs: 7 } };
    let tried = Activation { canary: Some(canary), kind: ActivationKind::CanaryStarted, ..activation("order", 1) };
    assert_eq!(store.activate(&ns, 0, &tried), Ok(None), "somebody was faster");
    let missing = Activation { canary: Some(Canary { version: 3, ..canary }), ..tried.clone() };
    assert_eq!(store.activate(&ns, 1, &missing), Ok(None));
    let second = store.activate(&ns, 1, &tried).unwrap().unwrap();
    let standing = store.standing(&ns, "order").unwrap().unwrap();
    assert_eq!(standing.activation, second);
    assert_eq!((standing.active.version, standing.active.active), (1, true));
    assert_eq!(standing.canary.map(|v| (v.version, v.active)), Some((2, false)));
    let third = store.activate(&ns, 2, &activation("order", 2)).unwrap().unwrap();
    let active: Vec<bool> = store.versions(&ns, Some("order")).unwrap().iter().map(|v| v.active).collect();
    assert_eq!(active, [false, true]);
    assert_eq!(store.activations(&ns, "order", 9), Ok(vec![third.clone(), second, first]));
    assert_eq!(store.activations(&ns, "order", 1), Ok(vec![third]));
    assert_eq!(store.activations(&elsewhere, "order", 9), Ok(Vec::new()));
    assert_eq!(store.standing(&elsewhere, "order"), Ok(None));
}

pub fn versions_are_deleted(store: &dyn Store) {
    let ns = Namespace::default();
    for code in ["1", "2", "3", "4"] {
        store.add_version(&ns, &version("order", code)).unwrap();
    }
    let numbers = || store.versions(&ns, Some("order")).unwrap().iter().map(|v| v.version).collect::<Vec<_>>();
    let delete = |number, last| store.delete_version(&ns, "order", number, last, Timestamp(8));
    assert_eq!(delete(4, 0), Ok(true));
    assert_eq!(delete(4, 0), Ok(false), "it is gone");
    let canary = Canary { version: 2, share: 1_000, limits: CanaryLimits::default() };
    store.activate(&ns, 0, &activation("order", 1)).unwrap().unwrap();
    store.activate(&ns, 1, &Activation { canary: Some(canary), ..activation("order", 1) }).unwrap().unwrap();
    assert_eq!((delete(1, 2), delete(2, 2)), (Ok(false), Ok(false)), "new runs take them");
    assert_eq!(delete(3, 1), Ok(false), "somebody was faster");
    assert_eq!((delete(3, 2), numbers()), (Ok(true), vec![1, 2]));
    assert_eq!(store.activate(&ns, 2, &activation("order", 3)), Ok(None), "it is not there");
    assert_eq!(store.activations(&ns, "order", 9).unwrap().len(), 2);
    // Its number is its own, also when it comes again.
    assert_eq!(store.add_version(&ns, &version("order", "5")).unwrap().version, 5);
    let again = VersionRow { note: Some("after all".into()), signed_by: Some("k".into()), ..version("order", "3") };
    let again = VersionRow { deployed_at: Timestamp(99), ..again };
    assert_eq!(store.add_version(&ns, &again).unwrap(), VersionRow { version: 3, ..again });
    assert_eq!(numbers(), [1, 2, 3, 5]);
    assert!(store.activate(&ns, 2, &activation("order", 3)).unwrap().is_some());
}

pub fn reports_of_preflights_are_kept(store: &dyn Store) {
    let ns = Namespace::default();
    store.add_version(&ns, &version("order", "1")).unwrap();
    let row = |version, at| PreflightRow {
        workflow: "order".into(),
        version,
        at: Timestamp(at),
        report: json(&format!("{{\"agrees\": {at}}}")),
    };
    for at in [1, 5, 3, 4, 5] {
        store.put_preflight(&ns, &row(1, at), 3).unwrap();
    }
    store.put_preflight(&ns, &row(2, 2), 3).unwrap();
    assert_eq!(store.preflights(&ns, "order", 1), Ok(vec![row(1, 5), row(1, 4), row(1, 3)]));
    assert_eq!(store.preflights(&ns, "order", 2), Ok(vec![row(2, 2)]));
    assert_eq!(store.preflights(&ns, "bill", 1), Ok(Vec::new()));
    assert_eq!(store.preflights(&Namespace::new("other").unwrap(), "order", 1), Ok(Vec::new()));
}

pub fn activities_by_name(store: &dyn Store) {
    let ns = Namespace::default();
    let row = |name: &str, code: &str| ActivityRow {
        name: name.into(),
        implementation: Implementation::Wasm { digest: Digest::of(code.as_bytes()), grants: json("{\"dirs\":[]}") },
        deployed_at: Timestamp(3),
    };
    store.put_activity(&ns, &row("b", "1")).unwrap();
    store.put_activity(&ns, &row("a", "1")).unwrap();
    store.put_activity(&ns, &row("b", "2")).unwrap();
    assert_eq!(store.activity(&ns, "b"), Ok(Some(row("b", "2"))));
    assert_eq!(store.activities(&ns), Ok(vec![row("a", "1"), row("b", "2")]));
    assert_eq!(store.activity(&ns, "c"), Ok(None));
    assert_eq!(store.activities(&Namespace::new("other").unwrap()), Ok(Vec::new()));
}

pub fn activities_change_their_kind(store: &dyn Store) {
    let ns = Namespace::default();
    let row = |implementation, at| ActivityRow { name: "pay".into(), implementation, deployed_at: Timestamp(at) };
    // Configurations are kept as they came, to the byte.
    let http = row(Implementation::Http { config: json("{\"url\": \"https://a.example/\",\"n\":1.0}") }, 1);
    let wasm = row(Implementation::Wasm { digest: Digest::of(b"1"), grants: json("{}") }, 2);
    let other = row(Implementation::Http { config: json("{\"url\":\"https://b.example/\"}") }, 3);
    for now in [&http, &wasm, &other, &other] {
        store.put_activity(&ns, now).unwrap();
        assert_eq!(store.activity(&ns, "pay"), Ok(Some(now.clone())));
        assert_eq!(store.activities(&ns), Ok(vec![now.clone()]));
    }
    let elsewhere = Namespace::new("other").unwrap();
    store.put_activity(&elsewhere, &wasm).unwrap();
    assert_eq!(store.activity(&ns, "pay"), Ok(Some(other)));
    assert_eq!(store.activity(&elsewhere, "pay"), Ok(Some(wasm)));
}

pub fn queues_have_limits(store: &dyn Store) {
    let (here, elsewhere) = (Namespace::default(), Namespace::new("other").unwrap());
    let row = |namespace: &Namespace, name: &str, rate: Option<(f64, u32)>, concurrency| QueueRow {
        namespace: namespace.clone(),
        name: name.into(),
        limits: QueueLimits { rate: rate.map(|(per_second, burst)| RateLimit { per_second, burst }), concurrency },
    };
    assert_eq!(store.queues(), Ok(Vec::new()));
    let (mail, other) = (row(&here, "mail", Some((0.1, 3)), Some(7)), row(&elsewhere, "mail", None, Some(1)));
    let bills = row(&here, "bills", Some((1_000_000.0, 1_000_000)), None);
    for put in [&other, &mail, &bills] {
        store.put_queue(put).unwrap();
    }
    assert_eq!(store.queues(), Ok(vec![bills.clone(), mail, other.clone()]));
    // Another put is in the place of the one before.
    let slower = row(&here, "mail", None, Some(2));
    store.put_queue(&slower).unwrap();
    assert_eq!(store.queues(), Ok(vec![bills, slower, other.clone()]));
    for name in ["mail", "bills", "never"] {
        store.put_queue(&row(&here, name, None, None)).unwrap();
    }
    assert_eq!(store.queues(), Ok(vec![other]));
}
