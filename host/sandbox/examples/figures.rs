//! Measures the sandbox: `figures <workflow.wasm> [workflow [input]]` prints what a load, an instance, a turn and a
//! waiting guest cost. Every promise is answered with `null`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relive_core::cursor::{Cursor, Mode, RunContext};
use relive_core::event::{EventBody, HistoryEvent, TimerFired};
use relive_core::guest::{Guest, GuestState};
use relive_core::limits::RunLimits;
use relive_core::{Digest, ExecutionKey, Json, Namespace, Timestamp, WorkflowId};
use relive_sandbox::{AdmittedComponent, LoadedComponent, ReactorGuest, Sandbox, SandboxConfig};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const INSTANCES: u32 = 2_000;
const TURNS: u64 = 200_000;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: figures <workflow.wasm> [workflow [input]]")?;
    let upload = std::fs::read(&path)?;
    let cache = std::env::temp_dir().join(format!("relive-figures-{}", std::process::id()));
    let config = SandboxConfig { cache_dir: Some(cache.clone()), ..SandboxConfig::in_process() };
    let began = Instant::now();
    let sandbox = Sandbox::new(config)?;
    println!("sandbox made in           {:>10.1?}", began.elapsed());
    let began = Instant::now();
    let admitted = sandbox.admit(&upload)?;
    println!("admitted in               {:>10.1?}  ({} bytes)", began.elapsed(), upload.len());
    println!(
        "memory image              {:?}, globals {}",
        admitted.inspection.image, admitted.inspection.image_globals
    );
    let AdmittedComponent::Workflow(loaded) = admitted.component else {
        return Err("an activity".into());
    };
    let began = Instant::now();
    sandbox.load(loaded.digest(), &upload)?;
    println!("loaded from the cache in  {:>10.1?}", began.elapsed());
    std::fs::remove_dir_all(cache)?;
    let first = admitted.inspection.descriptions.first().map(|d| d.name.clone()).ok_or("nothing described")?;
    let workflow = args.next().unwrap_or(first);
    let input = Json::parse(&args.next().unwrap_or_else(|| "null".to_owned()))?;
    instances(&loaded)?;
    turns(&loaded, &workflow, &input)?;
    waiting(&sandbox, &loaded, &workflow, &input)
}

fn cursor() -> Outcome<Cursor> {
    Ok(Cursor::new(Arc::new(RunContext {
        execution: ExecutionKey {
            namespace: Namespace::default(),
            workflow_id: WorkflowId::new("figures")?,
            run_id: "018f0000-0000-7000-8000-000000000000".parse()?,
        },
        workflow: "figures".into(),
        digest: Digest([0; 32]),
        started_at: Timestamp(0),
        continued_from: None,
        start_key: None,
        correlation_id: None,
        trace_id: None,
        seed: [0; 32],
        limits: RunLimits::default(),
    })))
}

fn event(event_id: u64, promise: u64) -> HistoryEvent {
    HistoryEvent {
        event_id,
        timestamp: Timestamp(event_id),
        event_version: 1,
        body: EventBody::new(Some(promise), TimerFired {}),
        hash: [0; 32],
    }
}

fn begun(loaded: &LoadedComponent, workflow: &str, input: &Json) -> Outcome<ReactorGuest> {
    let mut guest = loaded.instantiate(cursor()?)?;
    guest.cursor().apply(&event(1, u64::MAX), Mode::Live);
    guest.start(workflow, input)?;
    guest.cursor().end_turn();
    Ok(guest)
}

fn instances(loaded: &LoadedComponent) -> Outcome<()> {
    let mut best = Duration::MAX;
    let began = Instant::now();
    for _ in 0..INSTANCES {
        let one = Instant::now();
        drop(loaded.instantiate(cursor()?)?);
        best = best.min(one.elapsed());
    }
    println!("instantiate and drop      {:>10.1?}  (best {best:.1?})", began.elapsed() / INSTANCES);
    Ok(())
}

fn turns(loaded: &LoadedComponent, workflow: &str, input: &Json) -> Outcome<()> {
    let mut guest = begun(loaded, workflow, input)?;
    let (mut turns, mut lives) = (0_u32, 1);
    let mut spent = Duration::ZERO;
    let mut id = 1;
    while u64::from(turns) < TURNS {
        let Some(promise) = guest.cursor().open().keys().next().copied() else {
            return Err("the workflow waits for nothing: give it an input with which it issues commands".into());
        };
        id += 1;
        let next = event(id, promise);
        let began = Instant::now();
        let handed = guest.cursor().apply(&next, Mode::Live);
        let state = match handed {
            Some(handed) => guest.resume(handed)?,
            None => GuestState::Waiting,
        };
        let output = guest.cursor().end_turn();
        spent += began.elapsed();
        turns += 1;
        drop(output);
        if state != GuestState::Waiting {
            guest = begun(loaded, workflow, input)?;
            (id, lives) = (1, lives + 1);
        }
    }
    println!("a turn                    {:>10.2?}  ({turns} turns in {lives} lives)", spent / turns);
    Ok(())
}

fn resident() -> Outcome<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split_whitespace().nth(1).ok_or("no resident size")?.parse()?;
    Ok(pages * 4096)
}

fn waiting(sandbox: &Sandbox, loaded: &LoadedComponent, workflow: &str, input: &Json) -> Outcome<()> {
    // The pool's reservations and the allocator's arenas are warm already.
    let before = resident()?;
    let guests = (0..INSTANCES).map(|_| begun(loaded, workflow, input)).collect::<Outcome<Vec<_>>>()?;
    let each = (resident()?.saturating_sub(before)) / u64::from(INSTANCES);
    println!("a waiting guest           {:>8} KiB  ({:?})", each / 1024, sandbox.memory_stats());
    drop(guests);
    Ok(())
}
