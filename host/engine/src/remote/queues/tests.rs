//! Queues, with and without limits: what is handed to whom, and when.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use relive_core::ports::{QueueLimits, QueueRow, RateLimit};

use super::*;
use crate::remote::ClaimRequest;

fn name() -> QueueName {
    (Namespace::default(), "q".into())
}

fn task(run: u64) -> TaskRef {
    TaskRef { run: RunKey(run), command_no: 1, attempt: 1 }
}

fn offer(queues: &Arc<Queues>, activity: &str, run: u64) -> Offered {
    queues.offer(&name(), &activity.into(), task(run), Timestamp(run))
}

fn taken(queues: &Arc<Queues>, activities: Option<&[String]>, max: usize) -> Vec<TaskRef> {
    queues.take(&name(), activities, max, Timestamp(9)).iter().map(|t| t.task).collect()
}

type Rx = oneshot::Receiver<Result<Box<ClaimedTask>, NotClaimed>>;

fn poller(activities: Option<&[&str]>) -> (Poller, Rx) {
    let (reply, answer) = oneshot::channel();
    let worker = ClaimedBy { id: "w".into(), identity: "w".into() };
    let activities = activities.map(|names| names.iter().map(|n| (*n).to_owned()).collect());
    (Poller { worker, activities, reply }, answer)
}

#[test]
fn the_oldest_of_what_a_worker_takes_comes_first() {
    let queues = Arc::new(Queues::default());
    for (run, activity) in [(1, "mail"), (2, "charge"), (3, "mail"), (4, "ship")] {
        assert!(matches!(offer(&queues, activity, run), Offered::Queued(_)));
    }
    // Once more: it is there already.
    offer(&queues, "mail", 1);
    let names = ["mail".to_owned(), "ship".to_owned()];
    assert_eq!(taken(&queues, Some(&names), 2), [task(1), task(3)]);
    let view = queues.view(&name(), Timestamp(0)).expect("a queue");
    assert_eq!((view.backlog, view.oldest, view.added, view.dispatched), (2, Some(Timestamp(2)), 4, 2));
    assert_eq!(taken(&queues, None, 9), [task(2), task(4)]);
    assert!(taken(&queues, None, 9).is_empty());
}

#[test]
fn a_poll_that_waits_is_handed_what_it_takes() {
    let queues = Arc::new(Queues::default());
    let (ship, _ship) = poller(Some(&["ship"]));
    let (any, mut any_answer) = poller(None);
    let (gone, answer) = poller(None);
    let _places = [gone, ship, any].map(|p| queues.wait(&name(), p, Timestamp(1)).ok().expect("nothing is ready"));
    drop(answer);
    let Offered::Taken(taken) = offer(&queues, "mail", 1) else { panic!("a poll waits") };
    assert!(taken.activities.is_none());
    assert!(any_answer.try_recv().is_err());
    assert!(matches!(offer(&queues, "mail", 2), Offered::Queued(_)), "the one that is left takes something else");
    assert!(matches!(offer(&queues, "ship", 3), Offered::Taken(_)));
}

#[test]
fn a_place_is_given_up_and_a_ready_task_is_taken_at_once() {
    let queues = Arc::new(Queues::default());
    let (first, _first) = poller(None);
    drop(queues.wait(&name(), first, Timestamp(1)));
    assert_eq!(queues.view(&name(), Timestamp(0)).expect("a queue").pollers, 0);
    offer(&queues, "mail", 1);
    let (second, _second) = poller(None);
    let (found, _) = *queues.wait(&name(), second, Timestamp(1)).err().expect("one is ready");
    assert_eq!(found.task, task(1));
    offer(&queues, "mail", 2);
    queues.remove(RunKey(2), 1);
    assert_eq!(queues.view(&name(), Timestamp(0)).expect("a queue").backlog, 0);
    queues.sweep(Timestamp(FORGET_AFTER_NANOS * 2));
    assert!(queues.views(&Namespace::default(), Timestamp(0)).is_empty());
}

#[test]
fn another_attempt_takes_the_place_of_the_one_before() {
    let queues = Arc::new(Queues::default());
    offer(&queues, "mail", 1);
    let again = TaskRef { attempt: 2, ..task(1) };
    queues.offer(&name(), &"mail".into(), again, Timestamp(5));
    assert_eq!(taken(&queues, None, 9), [again]);
    queues.claimed(&name(), RunKey(1), 1);
    queues.claimed(&name(), RunKey(1), 1);
    assert_eq!(queues.view(&name(), Timestamp(0)).expect("a queue").claimed, 1);
    queues.released(RunKey(1), 1);
    queues.released(RunKey(1), 1);
    assert_eq!(queues.view(&name(), Timestamp(0)).expect("a queue").claimed, 0);
}

/// A desk in the place of the engine: its clock, what was handed to polls that waited, and when to look again.
#[derive(Default)]
struct Desk {
    now: AtomicU64,
    handed: Mutex<Vec<(TaskRef, ClaimRequest)>>,
    looks: Mutex<Vec<Timestamp>>,
}

impl Outlet for Arc<Desk> {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn hand(&self, task: TaskRef, request: ClaimRequest) {
        self.handed.lock().push((task, request));
    }

    fn look(&self, at: Timestamp, _: &QueueName) {
        self.looks.lock().push(at);
    }
}

const SECOND: u64 = 1_000_000_000;

fn limits(rate: Option<(f64, u32)>, concurrency: Option<u32>) -> QueueLimits {
    QueueLimits { rate: rate.map(|(per_second, burst)| RateLimit { per_second, burst }), concurrency }
}

/// A queue with limits, its desk, and its polls.
struct Site {
    queues: Arc<Queues>,
    desk: Arc<Desk>,
    /// Polls that wait: what they take, and where they are answered.
    polls: Vec<(Waiting, Option<&'static [&'static str]>, Rx)>,
    /// Attempts on their way to a claim, by the right that they have; claimed ones.
    passes: Vec<(TaskRef, Pass)>,
    claims: Vec<TaskRef>,
    /// When each attempt went out.
    out: Vec<u64>,
    runs: u64,
}

impl Site {
    fn new(limits: QueueLimits) -> Self {
        let (queues, desk) = (Arc::new(Queues::default()), Arc::new(Desk::default()));
        desk.now.store(1_000 * SECOND, Ordering::Relaxed);
        queues.attach(desk.clone());
        queues.set_limits(&name(), limits, desk.now());
        Self { queues, desk, polls: Vec::new(), passes: Vec::new(), claims: Vec::new(), out: Vec::new(), runs: 0 }
    }

    fn offer(&mut self, activity: &'static str) {
        self.runs += 1;
        let offered = self.queues.offer(&name(), &activity.into(), task(self.runs), self.desk.now());
        assert!(matches!(offered, Offered::Queued(_)), "a gate lets nothing past");
        self.settle();
    }

    fn poll(&mut self, activities: Option<&'static [&'static str]>) {
        let (poll, answer) = poller(activities);
        match self.queues.wait(&name(), poll, self.desk.now()) {
            Ok(waiting) => self.polls.push((waiting, activities, answer)),
            Err(ready) => {
                let (taken, _) = *ready;
                self.went_out(taken.task, taken.pass);
            }
        }
        self.settle();
    }

    fn take(&mut self, max: usize) {
        for taken in self.queues.take(&name(), None, max, self.desk.now()) {
            self.went_out(taken.task, taken.pass);
        }
        self.settle();
    }

    fn went_out(&mut self, task: TaskRef, pass: Pass) {
        assert!(matches!(pass, Pass::Permit(_)));
        self.out.push(self.desk.now().0);
        self.passes.push((task, pass));
    }

    fn pass_time(&mut self, nanos: u64) {
        self.desk.now.fetch_add(nanos, Ordering::Relaxed);
        self.settle();
    }

    fn claim(&mut self) {
        if let Some((task, pass)) = self.passes.pop() {
            self.queues.claimed(&name(), task.run, task.command_no);
            self.claims.push(task);
            drop(pass);
        }
        self.settle();
    }

    fn refuse(&mut self) {
        drop(self.passes.pop());
        self.settle();
    }

    fn end(&mut self) {
        if let Some(task) = self.claims.pop() {
            self.queues.released(task.run, task.command_no);
        }
        self.settle();
    }

    /// The timers ring, and polls that were served go.
    fn settle(&mut self) {
        let now = self.desk.now();
        let due = self.desk.looks.lock().extract_if(.., |at| *at <= now).count();
        if due > 0 {
            self.queues.serve(&name());
        }
        let handed = std::mem::take(&mut *self.desk.handed.lock());
        for (task, request) in handed {
            self.went_out(task, request.pass);
        }
        self.polls.retain_mut(|(_, _, answer)| matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    }

    fn view(&self) -> QueueView {
        self.queues.view(&name(), self.desk.now()).expect("a queue")
    }

    fn is_held_to(&self, limits: &QueueLimits) {
        let at_once = self.passes.len() + self.claims.len();
        assert!(limits.concurrency.is_none_or(|most| at_once <= most as usize), "{at_once} at once");
        if let (Some(rate), Some(end)) = (limits.rate, self.out.last()) {
            for (n, begin) in self.out.iter().rev().enumerate() {
                let most = f64::from(rate.burst) + rate.per_second * ((end - begin) as f64 / 1e9);
                assert!((n + 1) as f64 <= most + 1e-6, "{} in {} ns", n + 1, end - begin);
            }
        }
        let view = self.view();
        assert_eq!((view.claimed, view.pollers), (self.claims.len() as u64, self.polls.len() as u64));
        if view.held_back.is_none() {
            let takes = |names: &Option<&[&str]>| {
                view.activities.keys().any(|activity| names.is_none_or(|n| n.contains(&activity.as_str())))
            };
            assert!(!self.polls.iter().any(|(_, names, _)| takes(names)), "a poll waits for what may go out");
        }
    }
}

#[test]
fn polls_that_wait_are_served_when_a_permit_is_back() {
    let mut site = Site::new(limits(None, Some(2)));
    ["a", "b", "c", "d"].into_iter().for_each(|activity| site.offer(activity));
    site.take(9);
    assert_eq!((site.passes.len(), site.view().held_back), (2, Some(HeldBack::Concurrency)));
    site.poll(Some(&["d"]));
    site.poll(None);
    site.claim();
    assert_eq!(site.passes.len(), 1, "claimed is not back");
    site.refuse();
    assert_eq!(site.passes.last().map(|(task, _)| task.run), Some(RunKey(4)), "the first poll takes d alone");
    site.end();
    assert_eq!(site.passes.last().map(|(task, _)| task.run), Some(RunKey(3)));
    assert!(site.polls.is_empty());
}

#[test]
fn polls_that_wait_are_served_when_a_token_is_there_or_limits_go() {
    let mut site = Site::new(limits(Some((1.0, 1)), None));
    (0..4).for_each(|_| site.offer("a"));
    (0..4).for_each(|_| site.poll(None));
    assert_eq!((site.passes.len(), site.view().held_back), (1, Some(HeldBack::Rate)));
    site.pass_time(SECOND - 1);
    assert_eq!(site.passes.len(), 1);
    site.pass_time(1);
    assert_eq!(site.passes.len(), 2);
    site.queues.set_limits(&name(), limits(None, None), site.desk.now());
    site.settle();
    assert_eq!((site.passes.len(), site.view().rate), (4, None));
    site.passes.clear();
    site.queues.sweep(site.desk.now());
    site.queues.offer(&name(), &"a".into(), task(99), site.desk.now());
    assert!(matches!(site.queues.take(&name(), None, 1, site.desk.now())[0].pass, Pass::Free), "the gate is gone");
}

#[test]
fn nothing_goes_out_before_claims_of_before_the_start_are_known() {
    let mut site = Site::new(limits(None, Some(2)));
    let walk = site.queues.recovery();
    let owner = walk.clone();
    (0..3).for_each(|_| site.offer("a"));
    site.poll(None);
    site.poll(None);
    drop(walk);
    assert_eq!((site.passes.len(), site.view().held_back), (0, Some(HeldBack::Recovery)));
    site.queues.claimed(&name(), RunKey(77), 1);
    site.claims.push(task(77));
    drop(owner);
    site.settle();
    assert_eq!((site.passes.len(), site.view().held_back), (1, Some(HeldBack::Concurrency)));
    assert!(site.queues.permit(&name(), site.desk.now()).is_err(), "nor what a worker learnt of elsewhere");
    site.is_held_to(&limits(None, Some(2)));
}

#[test]
fn what_the_store_holds_yields_to_what_was_set_meanwhile() {
    let site = Site::new(limits(None, Some(2)));
    let as_of = site.queues.limits_changed();
    let row = QueueRow { namespace: Namespace::default(), name: "q".into(), limits: limits(None, Some(5)) };
    site.queues.set_limits(&name(), limits(None, Some(3)), site.desk.now());
    site.queues.set_all_limits(vec![row.clone()], as_of, site.desk.now());
    assert_eq!(site.view().concurrency, Some(3));
    site.queues.set_all_limits(vec![row], as_of + 1, site.desk.now());
    assert_eq!(site.view().concurrency, Some(5));
    site.queues.set_all_limits(Vec::new(), as_of + 1, site.desk.now());
    assert_eq!(site.view().concurrency, None, "another host took them away");
}

#[derive(Clone, Debug)]
enum Step {
    Offer(bool),
    Poll(u8),
    Take(usize),
    Gone(usize),
    Pass(u64),
    Claim,
    Refuse,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Offer),
        4 => (0u8..3).prop_map(Step::Poll),
        1 => (1usize..4).prop_map(Step::Take),
        1 => (0usize..4).prop_map(Step::Gone),
        2 => (0..SECOND).prop_map(Step::Pass),
        3 => Just(Step::Claim),
        1 => Just(Step::Refuse),
        3 => Just(Step::End),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Limits hold whatever becomes of attempts and polls, and no poll waits for what is ready and may go out.
    #[test]
    fn limits_hold_and_nobody_waits_in_vain(
        rate in prop::option::of((0.5f64..20.0, 1u32..4)), most in prop::option::of(1u32..4), steps in steps(),
    ) {
        let limits = limits(rate, most);
        prop_assume!(!limits.is_none());
        let mut site = Site::new(limits);
        for step in steps {
            match step {
                Step::Offer(a) => site.offer(if a { "a" } else { "b" }),
                Step::Poll(0) => site.poll(None),
                Step::Poll(1) => site.poll(Some(&["a"])),
                Step::Poll(_) => site.poll(Some(&["b", "c"])),
                Step::Take(max) => site.take(max),
                Step::Gone(at) => if at < site.polls.len() { drop(site.polls.remove(at)) },
                Step::Pass(nanos) => site.pass_time(nanos),
                Step::Claim => site.claim(),
                Step::Refuse => site.refuse(),
                Step::End => site.end(),
            }
            site.is_held_to(&limits);
        }
        // Everything that is ready goes out in the end, each once.
        for _ in 0..1_000 {
            if site.view().backlog == 0 {
                break;
            }
            site.poll(None);
            site.claim();
            site.end();
            site.pass_time(SECOND);
        }
        prop_assert_eq!(site.view().backlog, 0);
        prop_assert_eq!(site.out.len() as u64, site.runs);
    }
}
