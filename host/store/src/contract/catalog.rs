//! Components, versions, activities and queues.

use relive_core::{
    Digest, Namespace, Timestamp,
    ports::{ActivityRow, ComponentMeta, Implementation, QueueLimits, QueueRow, RateLimit, StoreErrorKind, VersionRow},
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
    let one = store.deploy(&ns, &version("order", "1")).unwrap();
    assert_eq!(one, VersionRow { version: 1, active: true, ..version("order", "1") });
    let two = store.deploy(&ns, &version("order", "2")).unwrap();
    assert_eq!((two.version, two.active), (2, true));
    assert_eq!(store.deploy(&ns, &version("bill", "1")).unwrap().version, 1);
    let all: Vec<_> =
        store.versions(&ns, None).unwrap().iter().map(|v| (v.workflow.to_string(), v.version, v.active)).collect();
    assert_eq!(all, [("bill".to_owned(), 1, true), ("order".to_owned(), 1, false), ("order".to_owned(), 2, true)]);
    assert_eq!(store.versions(&ns, Some("order")).unwrap(), [VersionRow { active: false, ..one }, two]);
    let elsewhere = Namespace::new("other").unwrap();
    assert_eq!(store.versions(&elsewhere, None), Ok(Vec::new()));
    assert_eq!(store.active_version(&elsewhere, "order"), Ok(None));
}

pub fn one_version_is_active(store: &dyn Store) {
    let ns = Namespace::default();
    let one = store.deploy(&ns, &version("order", "1")).unwrap();
    store.deploy(&ns, &version("order", "2")).unwrap();
    // The same code again is the same version, and active.
    assert_eq!(store.deploy(&ns, &version("order", "1")).unwrap(), one);
    assert_eq!(store.active_version(&ns, "order"), Ok(Some(one)));
    let active: Vec<bool> = store.versions(&ns, Some("order")).unwrap().iter().map(|v| v.active).collect();
    assert_eq!(active, [true, false]);
    // The same component under another export is another version.
    assert_eq!(store.deploy(&ns, &VersionRow { export: "order2".into(), ..version("order", "1") }).unwrap().version, 3);
    assert_eq!(store.active_version(&ns, "none"), Ok(None));
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
