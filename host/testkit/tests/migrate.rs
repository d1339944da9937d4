//! Putting executions on other versions: those that agree go on there, the others stay; blocked ones go on with fixed code;
//! nothing is lost or done twice on the way, whatever arrives meanwhile, and every later life does the same.

use std::sync::Arc;

use relive_core::{
    Namespace,
    event::Attributes,
    ports::{HistoryStore, Status},
};
use relive_engine::{
    DeployRequest, EngineConfig, ImageConfig,
    preflight::{Code, PreflightReport, PreflightRequest, Told},
    versions::{Activate, Signed},
};
use relive_store::MemoryStore;
use relive_testkit::{
    clock::SystemClock,
    embedded::{Embedded, code},
    model::Op,
};

fn echo(input: &str) -> Op {
    Op::Activity { name: "echo".into(), input: input.into(), cancellation: Default::default() }
}

fn wait(handle: usize) -> [Op; 2] {
    [Op::Message("a".into()), Op::Await(handle)]
}

/// One activity, then so many messages.
fn messages(first: &str, count: usize) -> Vec<Op> {
    let mut program = vec![echo(first), Op::Await(0)];
    program.extend((1..=count).flat_map(wait));
    program
}

struct Site {
    store: Arc<MemoryStore>,
    host: Embedded,
    lives: u64,
}

impl Site {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let host = Self::life(&store, 1).await;
        Self { store, host, lives: 1 }
    }

    async fn life(store: &Arc<MemoryStore>, epoch: u64) -> Embedded {
        // An image every other event, so that those of other code are met.
        let images = ImageConfig { every: 2, ..ImageConfig::default() };
        Embedded::start(store.clone(), Arc::new(SystemClock), epoch, EngineConfig { images, ..EngineConfig::default() })
            .await
    }

    /// The host is gone, and another one comes.
    async fn restart(&mut self) {
        self.host.engine.shutdown().await;
        self.lives += 1;
        self.host = Self::life(&self.store, self.lives).await;
    }

    /// Deploys a program beside what runs; its version.
    async fn deploy(&self, program: &[Op]) -> u32 {
        let request =
            DeployRequest { activate: Activate::Not, ..DeployRequest::new(Namespace::default(), code(program)) };
        self.host.engine.deploy(request).await.expect("deployed").workflows[0].version
    }

    async fn migrate(&self, id: &str, version: u32) -> Result<(), relive_core::Error> {
        self.host.engine.migrate(Embedded::target(id), version, Signed::default()).await
    }

    async fn preflight(&self, version: u32) -> PreflightReport {
        let request = PreflightRequest {
            namespace: Namespace::default(),
            workflow: "model".to_owned(),
            code: Code::Version(version),
            sample: None,
            closed_within: None,
            verdicts: false,
            answers: true,
        };
        let mut told = self.host.engine.preflight(request).await.expect("begun");
        loop {
            match told.recv().await.expect("a report") {
                Told::Report(report) => return *report,
                Told::Failed(error) => panic!("{error}"),
                Told::Progress(_) | Told::Verdict(_) => {}
            }
        }
    }

    fn row(&self, id: &str) -> relive_core::ports::ExecutionRow {
        let target = Embedded::target(id);
        self.store.find(&target.namespace, &target.workflow_id, None).expect("readable").expect("a run")
    }

    async fn stands(&self, id: &str, events: u64) {
        self.host.until("it has come so far", || async { self.row(id).last_event_id >= events }).await;
    }

    /// The versions that its history names.
    fn changes(&self, id: &str) -> Vec<u32> {
        let events = self.store.read_from(self.row(id).key, 1, 1_000).expect("readable");
        let version = |e: &relive_core::codec::StoredEvent| match e.decode().expect("an event").body.attributes {
            Attributes::VersionChanged(changed) => Some(changed.version),
            _ => None,
        };
        events.iter().filter_map(version).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agrees_goes_on_on_the_other_version_and_the_rest_stays() {
    let mut site = Site::new().await;
    let other = site.deploy(&messages("1", 3)).await;
    for (id, first) in [("a", "1"), ("b", "1.0"), ("c", "2")] {
        site.host.run(id, &messages(first, 1)).await.expect("started");
        site.stands(id, 3).await;
    }
    let report = site.preflight(other).await;
    assert_eq!((report.checked, report.agrees, report.diverges, report.groups.len()), (3, 2, 1, 1), "{report:?}");
    assert_eq!(report.groups[0].examples[0].workflow_id, "c");
    assert!(!report.is_clean());
    for id in ["a", "b"] {
        site.migrate(id, other).await.expect("it agrees");
        site.migrate(id, other).await.expect("it is there already");
        assert_eq!(site.changes(id), [other]);
    }
    let error = site.migrate("c", other).await.expect_err("it diverges");
    assert!(
        error.code == "diverges" && error.message.contains("echo(2)") && error.message.contains("echo(1)"),
        "{error}"
    );
    assert_eq!(site.migrate("a", 9).await.expect_err("no such version").code, "unknown-version");
    assert_eq!(site.changes("c"), [0; 0]);
    assert_eq!(site.preflight(other).await.same_code, 2);
    // The new code waits for two messages more than the old one did; and so it does in every later life.
    site.host.send("a", "a", "m1", "1").await.expect("sent");
    site.stands("a", 5).await;
    site.restart().await;
    for id in ["m2", "m3"] {
        assert!(site.row("a").status.is_open());
        site.host.send("a", "a", id, "1").await.expect("sent");
    }
    site.host.send("c", "a", "m1", "1").await.expect("sent");
    assert_eq!(site.host.ended("a").await.status, Status::Completed);
    assert_eq!(site.host.ended("c").await.status, Status::Completed);
    assert!(site.host.engine.replay(Embedded::target("a"), None, None).await.expect("a report").agrees);
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_execution_goes_on_with_fixed_code() {
    let site = Site::new().await;
    let fixed = site.deploy(&messages("1", 1)).await;
    let worse = site.deploy(&[echo("1"), Op::Await(0), echo("2"), Op::Await(1), Op::Trap]).await;
    let broken = [echo("1"), Op::Await(0), Op::Trap];
    site.host.run("w", &broken).await.expect("started");
    site.host.until("it is blocked", || async { site.row("w").status == Status::Blocked }).await;
    assert_eq!(site.preflight(fixed).await.agrees, 1);
    site.migrate("w", fixed).await.expect("it agrees");
    assert_eq!(site.row("w").status, Status::Running);
    site.host.send("w", "a", "m", "1").await.expect("sent");
    assert_eq!(site.host.ended("w").await.status, Status::Completed);
    assert_eq!(site.migrate("w", worse).await.expect_err("it has ended").code, "closed");
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_version_hold_in_every_later_life() {
    let ask = |id: &str| Op::Version { id: id.into(), min: 0, max: 1 };
    let mut site = Site::new().await;
    // Asked in the past, where the old code knew of no version, and again later, when the new code is live.
    let mut guarded = vec![ask("early"), echo("1"), Op::Await(0), ask("late")];
    guarded.extend(wait(1));
    guarded.extend([ask("early"), ask("late"), ask("new")]);
    guarded.extend(wait(2));
    let other = site.deploy(&guarded).await;
    site.host.run("w", &messages("1", 2)).await.expect("started");
    site.stands("w", 3).await;
    site.migrate("w", other).await.expect("a version leaves no command");
    site.host.send("w", "a", "m1", "1").await.expect("sent");
    site.stands("w", 6).await;
    let memory = |site: &Site| {
        let engine = site.host.engine.clone();
        async move { engine.replay(Embedded::target("w"), None, None).await.expect("a report") }
    };
    let before = memory(&site).await;
    assert!(before.agrees, "{before:?}");
    site.restart().await;
    let after = memory(&site).await;
    let counted = site.preflight(other).await.version_answers;
    let counted: Vec<_> = counted.iter().map(|c| (&*c.change_id, c.version, c.executions)).collect();
    assert!(counted.contains(&("early", 0, 1)) && counted.contains(&("new", 1, 1)), "{counted:?}");
    assert_eq!((after.agrees, &after.memory), (true, &before.memory));
    site.host.send("w", "a", "m2", "1").await.expect("sent");
    let result = site.host.ended("w").await.result.expect("a result").to_string();
    // What was passed before the change existed stays as it was; what the run came to afterwards is new.
    assert!(result.contains("v0;") && result.contains("v1;"), "{result}");
    assert!(site.host.engine.replay(Embedded::target("w"), None, None).await.expect("a report").agrees);
    site.host.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_once_while_executions_go_there_and_back() {
    const MESSAGES: usize = 60;
    let mut site = Site::new().await;
    let program = messages("1", MESSAGES);
    let (there, back) = (site.deploy(&program).await, {
        let mut same = program.clone();
        same.push(Op::Now);
        site.deploy(&same).await
    });
    site.host.run("w", &program).await.expect("started");
    site.stands("w", 3).await;
    let mut moved = 0;
    for half in 0..2 {
        let send = async {
            for n in half * MESSAGES / 2..(half + 1) * MESSAGES / 2 {
                let id = format!("m{n}");
                while let Err(error) = site.host.send("w", "a", &id, &n.to_string()).await {
                    assert_eq!(error.code, "try-again", "{error}");
                }
            }
        };
        let go = async {
            let mut moved = 0;
            for n in 0..20 {
                match site.migrate("w", if n % 2 == 0 { there } else { back }).await {
                    Ok(()) => moved += 1,
                    Err(error) => {
                        assert!(["try-again", "closed", "unknown-execution"].contains(&error.code), "{error}")
                    }
                }
            }
            moved
        };
        let ((), times) = tokio::join!(send, go);
        moved += times;
        if half == 0 {
            site.restart().await;
        }
    }
    let ended = site.host.ended("w").await;
    assert_eq!(ended.status, Status::Completed);
    assert!(moved > 0, "it was never moved");
    let events = site.store.read_from(site.row("w").key, 1, 1_000).expect("readable");
    let received = events.iter().filter(|e| e.event_type == relive_core::EventType::SignalReceived.code()).count();
    assert_eq!(received, MESSAGES);
    assert!(site.host.sink.attempts().values().all(|n| *n == 1));
    site.host.verify().await;
}
