//! Activities that the registry finds in the catalog when they are first asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use relive_activity::{ActivityRegistry, DispatchLimits, Grants, WasmLimits, code};
use relive_core::ports::{
    Activation, ActivityRow, ActivityRunner, Catalog, ComponentMeta, Implementation, PreflightRow, QueueRow, Standing,
    StoreError, StoreErrorKind, VersionRow,
};
use relive_core::{Digest, Namespace, Timestamp};

use crate::guest::{kitchen, named};
use crate::support::{completed, host, json, namespace, task};

/// The part of a catalog that activities are read from.
#[derive(Default)]
struct TestCatalog {
    rows: Mutex<HashMap<(Namespace, String), ActivityRow>>,
    components: Mutex<HashMap<Digest, Vec<u8>>>,
    component_reads: AtomicUsize,
}

impl TestCatalog {
    fn deploy(&self, name: &str, bytes: &[u8], grants: &str) {
        let digest = Digest::of(bytes);
        self.components.lock().insert(digest, bytes.to_vec());
        let implementation = Implementation::Wasm { digest, grants: json(grants) };
        let row = ActivityRow { name: name.into(), implementation, deployed_at: Timestamp::default() };
        self.put_activity(&Namespace::default(), &row).expect("kept");
    }
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::new(StoreErrorKind::Fatal, "the test does not use it"))
}

impl Catalog for TestCatalog {
    fn put_component(&self, _: &ComponentMeta, _: &[u8]) -> Result<(), StoreError> {
        unused()
    }
    fn component(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.component_reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.components.lock().get(digest).cloned())
    }
    fn component_meta(&self, _: &Digest) -> Result<Option<ComponentMeta>, StoreError> {
        unused()
    }
    fn add_version(&self, _: &Namespace, _: &VersionRow) -> Result<VersionRow, StoreError> {
        unused()
    }
    fn activate(&self, _: &Namespace, _: u64, _: &Activation) -> Result<Option<Activation>, StoreError> {
        unused()
    }
    fn delete_version(&self, _: &Namespace, _: &str, _: u32, _: u64, _: Timestamp) -> Result<bool, StoreError> {
        unused()
    }
    fn standing(&self, _: &Namespace, _: &str) -> Result<Option<Standing>, StoreError> {
        unused()
    }
    fn activations(&self, _: &Namespace, _: &str, _: usize) -> Result<Vec<Activation>, StoreError> {
        unused()
    }
    fn put_preflight(&self, _: &Namespace, _: &PreflightRow, _: usize) -> Result<(), StoreError> {
        unused()
    }
    fn preflights(&self, _: &Namespace, _: &str, _: u32) -> Result<Vec<PreflightRow>, StoreError> {
        unused()
    }
    fn versions(&self, _: &Namespace, _: Option<&str>) -> Result<Vec<VersionRow>, StoreError> {
        unused()
    }
    fn put_activity(&self, namespace: &Namespace, row: &ActivityRow) -> Result<(), StoreError> {
        self.rows.lock().insert((namespace.clone(), row.name.to_string()), row.clone());
        Ok(())
    }
    fn activity(&self, namespace: &Namespace, name: &str) -> Result<Option<ActivityRow>, StoreError> {
        Ok(self.rows.lock().get(&(namespace.clone(), name.to_owned())).cloned())
    }
    fn activities(&self, _: &Namespace) -> Result<Vec<ActivityRow>, StoreError> {
        unused()
    }
    fn put_queue(&self, _: &QueueRow) -> Result<(), StoreError> {
        unused()
    }
    fn queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        unused()
    }
}

fn registry(catalog: &Arc<TestCatalog>) -> ActivityRegistry {
    let builder = ActivityRegistry::builder(DispatchLimits::default()).wasm(host(WasmLimits::default()));
    builder.catalog(Arc::clone(catalog) as Arc<dyn Catalog>).build()
}

#[tokio::test]
async fn an_activity_of_the_catalog_is_loaded_once() {
    let catalog = Arc::new(TestCatalog::default());
    let registry = registry(&catalog);
    assert_eq!(registry.run(task("echo", "1")).await.expect_err("not deployed").code, code::UNKNOWN_ACTIVITY);
    catalog.deploy("echo", kitchen(), "{}");
    catalog.deploy("env", kitchen(), r#"{"env":{"A":"1"}}"#);
    let attempts: Vec<_> = (0..8).map(|_| tokio::spawn(registry.run(task("echo", "1")))).collect();
    for attempt in attempts {
        assert_eq!(attempt.await.expect("no panic").map(completed).expect("a result").as_str(), "1");
    }
    assert_eq!(registry.run(task("env", "1")).await.map(completed).expect("a result").as_str(), "\"A=1;\"");
    assert_eq!(catalog.component_reads.load(Ordering::SeqCst), 1);
    let mut foreign = task("echo", "1");
    foreign.execution.namespace = namespace("other");
    assert_eq!(registry.run(foreign).await.expect_err("another namespace").code, code::UNKNOWN_ACTIVITY);
}

#[tokio::test]
async fn a_forgotten_activity_is_read_again() {
    let catalog = Arc::new(TestCatalog::default());
    let registry = registry(&catalog);
    catalog.deploy("echo", kitchen(), "{}");
    registry.run(task("echo", "1")).await.expect("a result");
    let second = named(&["echo"]);
    catalog.deploy("echo", &second, "{}");
    assert!(registry.forget(&Namespace::default(), "echo"));
    registry.run(task("echo", "1")).await.expect("a result");
    assert_eq!(registry.loaded(&Namespace::default(), "echo"), Some(Digest::of(&second)));
}

#[tokio::test]
async fn what_cannot_be_loaded_may_be_tried_again() {
    let catalog = Arc::new(TestCatalog::default());
    let registry = registry(&catalog);
    catalog.deploy("echo", kitchen(), r#"{"directories":[{"host":"/nowhere","guest":"/a"}]}"#);
    catalog.deploy("broken", b"\0asm", "{}");
    catalog.deploy("odd", kitchen(), r#"{"everything":true}"#);
    for (name, text) in [("echo", "/nowhere"), ("broken", "broken"), ("odd", "everything")] {
        let failure = registry.run(task(name, "1")).await.expect_err(name);
        assert!(failure.code == code::UNAVAILABLE && failure.retryable && failure.message.contains(text), "{failure}");
    }
    catalog.deploy("echo", kitchen(), &Grants::default().to_json().expect("JSON").to_string());
    assert_eq!(registry.run(task("echo", "1")).await.map(completed).expect("a result").as_str(), "1");
}
