//! Upgrade and rollback of a cluster in the order that `docs/operations/deploy.md` gives: the store first, while the hosts
//! run, then the hosts, one after the other, under load.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use relive_store::contract::database::{query_sql, run_sql};
use relive_testkit::process::Host;
use serde_json::{Value, json};

use common::{
    BASE,
    cluster::{Cluster, ask, command, deploy, get, shared},
    relive, until,
};

/// Runs that wait for a message all the time.
const OPEN: usize = 40;

fn start(host: &Host, id: &str) {
    let activity = json!({"activity": {"name": "ledger", "input": {"n": 1, "step": "first"}}});
    let body = json!({"workflow": "script", "workflow_id": id, "input": {"program": [activity, {"message": {"channel": "a"}}]}});
    let (status, answer) = ask(host, "POST", &format!("{BASE}/executions"), &body);
    assert_eq!(status, 201, "{id}: {answer}");
}

fn finish(host: &Host, id: &str) {
    let (status, answer) = ask(host, "POST", &format!("{BASE}/executions/{id}/signals/a"), &json!({}));
    assert_eq!(status, 200, "{id}: {answer}");
    until("the execution to end", || {
        get(host, &format!("{BASE}/executions/{id}/result?wait_ms=10000"))["status"] == "completed"
    });
}

/// Does something while runs begin and end at a host; not one request may fail.
fn under_load<T>(host: &Host, name: &str, what: impl FnOnce() -> T) -> T {
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                let id = format!("{name}-{}", done.load(Ordering::Acquire));
                start(host, &id);
                finish(host, &id);
                done.fetch_add(1, Ordering::AcqRel);
            }
        });
        let some = |n: usize| until("some load", || load.is_finished() || done.load(Ordering::Acquire) > n);
        some(3);
        let result = what();
        some(done.load(Ordering::Acquire) + 3);
        over.store(true, Ordering::Release);
        load.join().expect("no request failed");
        result
    })
}

/// Ends a host in good order and starts it anew, as the next program would be.
fn replaced(cluster: &Cluster, old: Host, id: &str, other: &Host) -> Host {
    under_load(other, &format!("while-{id}-is-replaced"), || {
        assert_eq!(old.stop(), Some(0));
        let new = cluster.host(id);
        until("it to take its share", || shared(&new) && shared(other));
        new
    })
}

fn migrate(cluster: &Cluster) -> String {
    let output = std::process::Command::new(relive())
        .args(["migrate-store", "--store", &cluster.database.url])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn hosts_are_replaced_one_after_the_other() {
    let Some(cluster) = Cluster::new() else { return };
    let url = &cluster.database.url;
    let (a, b) = (cluster.host("a"), cluster.host("b"));
    until("both hosts to have shards", || shared(&a) && shared(&b));
    deploy(&a);
    let open: Vec<String> = (0..OPEN).map(|n| format!("open-{n}")).collect();
    open.iter().for_each(|id| start(&a, id));

    // The store first, while the hosts run: nothing is to be done, then something is that only adds, as migrations do.
    migrate(&cluster);
    let version = query_sql(url, "SELECT value::text FROM meta WHERE key = 'schema_version'").remove(0);
    under_load(&a, "while-the-store-is-migrated", || {
        run_sql(url, "ALTER TABLE executions ADD COLUMN later bigint");
        run_sql(url, "ALTER TABLE tasks ADD COLUMN later bigint; ALTER TABLE events ADD COLUMN later bigint");
        run_sql(url, "CREATE TABLE later (key bigint PRIMARY KEY)");
        run_sql(url, "UPDATE meta SET value = value + 1 WHERE key = 'schema_version'");
    });
    open[..OPEN / 4].iter().for_each(|id| finish(&b, id));

    // The program of before does not start on it, and says why; the hosts that run are as they were.
    let data = cluster.dir.path().join("old");
    let output = command(url, &[], &data, "old").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("newer"), "{said}");
    assert!(shared(&a) && shared(&b));

    // Its schema is back, as after a restore; the columns that it does not know are none of its business.
    run_sql(url, &format!("UPDATE meta SET value = {version} WHERE key = 'schema_version'"));
    let a = replaced(&cluster, a, "a", &b);
    open[OPEN / 4..OPEN / 2].iter().for_each(|id| finish(&b, id));
    let b = replaced(&cluster, b, "b", &a);
    open[OPEN / 2..].iter().for_each(|id| finish(&b, id));

    let (status, report) = ask(&a, "POST", &format!("{BASE}/verify"), &Value::Null);
    assert_eq!((status, &report["findings"]), (200, &json!([])), "{report:#}");
    let running = get(&a, &format!("{BASE}/executions?status=running&limit=1"));
    assert_eq!(running["executions"], json!([]));
    assert_eq!((a.stop(), b.stop()), (Some(0), Some(0)));
}
