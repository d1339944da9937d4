//! The executor against the fake host: what is asked for, in which order, and what one event does.

use relive_sdk::testing::{Call, Run, State};
use relive_sdk::*;
use serde_json::{json, Value};
use std::future::Future;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn call(name: &str) -> Activity<Value> {
    activity(name, &Value::Null)
}

fn asked(promise: u64, name: &str) -> Call {
    Call::activity(promise, name, Value::Null)
}

fn done(value: Value) -> State {
    State::Done(Ok(value.to_string()))
}

#[test]
fn steps_follow_each_other() {
    let mut run = Run::start(async {
        let a = call("a").await?;
        timer(SECOND).await?;
        let text: String = message("in").await?;
        Ok::<_, Failure>(json!([a, text]))
    });
    assert_eq!(run.calls(), [asked(1, "a")]);
    assert_eq!(run.state(), &State::Waiting);
    run.resolve(1, 7);
    assert_eq!(run.calls(), [Call::Timer(2, SECOND)]);
    run.resolve(2, Value::Null);
    assert_eq!(run.calls(), [Call::next_message(3, "in")]);
    assert_eq!(run.message(3, "m1", "hi"), &done(json!([7, "hi"])));
}

#[test]
fn join_all_schedules_all_at_once_and_keeps_their_order() {
    let mut run =
        Run::start(async { join_all((0..3).map(|_| call("a"))).await.into_iter().collect::<Result<Vec<_>, _>>() });
    assert_eq!(run.calls(), [asked(1, "a"), asked(2, "a"), asked(3, "a")]);
    run.resolve(3, 30);
    run.resolve(1, 10);
    assert_eq!(run.resolve(2, 20), &done(json!([10, 20, 30])));
}

#[test]
fn an_event_polls_only_the_futures_that_it_concerns() {
    use std::cell::Cell;
    use std::rc::Rc;
    let polls = Rc::new(Cell::new(0));
    let counter = polls.clone();
    let mut run = Run::start(async move {
        let branch = |_| {
            let counter = counter.clone();
            let mut pending = call("a").start();
            std::future::poll_fn(move |context| {
                counter.set(counter.get() + 1);
                std::pin::Pin::new(&mut pending).poll(context)
            })
        };
        try_join_all((0..100).map(branch)).await
    });
    assert_eq!(polls.get(), 100);
    run.resolve(50, 1);
    assert_eq!(polls.get(), 101);
}

#[test]
fn try_join_all_cancels_the_rest_after_a_failure() {
    let mut run = Run::start(async {
        let failed = try_join_all([call("a"), call("b"), call("c")]).await.err().map(|failure| failure.code);
        timer(SECOND).await?;
        Ok::<_, Failure>(failed)
    });
    run.calls();
    run.fail(2, Failure::new("no", ""));
    assert_eq!(run.calls(), [Call::Cancel(1), Call::Cancel(3), Call::Timer(4, SECOND)]);
    assert_eq!(run.resolve(4, Value::Null), &done(json!("no")));
}

#[test]
fn a_lost_select_keeps_the_message_promise() {
    let mut run = Run::start(async {
        let first = select(message::<u64>("in"), timer(SECOND)).await;
        assert_eq!(first, Either::Right(Ok(())));
        let second = select(message::<u64>("in"), timer(SECOND)).await;
        Ok::<_, Failure>(second == Either::Left(Ok(5)))
    });
    assert_eq!(run.calls(), [Call::Timer(1, SECOND), Call::next_message(2, "in")]);
    run.resolve(1, Value::Null);
    assert_eq!(run.calls(), [Call::Timer(3, SECOND)]);
    assert_eq!(run.message(2, "m1", 5), &done(json!(true)));
    assert_eq!(run.calls(), []);
}

#[test]
fn a_message_that_nobody_awaits_is_kept() {
    let mut run = Run::start(async {
        let _ = select(message::<u64>("in"), timer(SECOND)).await;
        call("slow").await?;
        message::<u64>("in").await
    });
    run.calls();
    run.resolve(1, Value::Null);
    assert_eq!(run.calls(), [asked(3, "slow")]);
    run.message(2, "m1", 5);
    assert_eq!(run.resolve(3, Value::Null), &done(json!(5)));
    assert_eq!(run.calls(), []);
}

#[test]
fn waiters_of_one_channel_share_a_promise_and_are_served_in_turn() {
    let mut run = Run::start(async {
        let (a, b) = join(message::<u64>("in"), message::<u64>("in")).await;
        Ok::<_, Failure>(json!([a?, b?]))
    });
    assert_eq!(run.calls(), [Call::next_message(1, "in")]);
    run.message(1, "m1", 1);
    assert_eq!(run.calls(), [Call::next_message(2, "in")]);
    assert_eq!(run.message(2, "m2", 2), &done(json!([1, 2])));
}

#[test]
fn ties_go_to_the_first_named() {
    let mut run = Run::start(async {
        let (mut a, mut b) = (call("a").start(), call("b").start());
        timer(SECOND).await?;
        let first = select(&mut a, &mut b).await;
        let (second, _) = race([b, call("c").start()]).await;
        Ok::<_, Failure>(json!([matches!(first, Either::Left(_)), second]))
    });
    run.calls();
    run.resolve(2, 2);
    run.resolve(1, 1);
    assert_eq!(run.resolve(3, Value::Null), &done(json!([true, 0])));
}

#[test]
fn dropped_futures_are_canceled_before_the_next_command_but_not_at_the_end() {
    let mut run = Run::start(async {
        drop((call("a").start(), timer(SECOND).start()));
        call("b").start().detach();
        let _ends_with_the_workflow = timer(SECOND).start();
        call("c").await
    });
    let calls = run.calls();
    assert_eq!(calls[2..], [Call::Cancel(1), Call::Cancel(2), asked(3, "b"), Call::Timer(4, SECOND), asked(5, "c")]);
    assert_eq!(run.resolve(5, 1), &done(json!(1)));
    assert_eq!(run.calls(), []);
}

#[test]
fn results_of_dropped_and_detached_promises_are_ignored() {
    let mut run = Run::start(async {
        drop(call("a").cancellation(CancellationType::Wait).start());
        call("b").start().detach();
        call("c").await
    });
    run.resolve(1, 1);
    run.fail(2, Failure::new("no", ""));
    assert_eq!(run.resolve(3, 3), &done(json!(3)));
}

#[test]
fn cancellation_reaches_the_awaits_of_that_moment_and_no_later_one() {
    let mut run = Run::start(async {
        let (activity, message) = join(call("a"), message::<u64>("in")).await;
        assert!(activity.is_err_and(|failure| failure.is_canceled()));
        assert!(message.is_err_and(|failure| failure.is_canceled()));
        assert!(cancel_requested());
        call("clean-up").await?;
        Err::<(), _>(Failure::canceled("as asked"))
    });
    run.calls();
    run.request_cancel();
    assert_eq!(run.calls(), [Call::Cancel(1), asked(3, "clean-up")]);
    assert_eq!(run.resolve(3, Value::Null), &State::Done(Err(Failure::canceled("as asked"))));
}

#[test]
fn cancellation_of_type_wait_waits_for_the_answer() {
    let mut run = Run::start(async { call("a").cancellation(CancellationType::Wait).await });
    run.calls();
    assert_eq!(run.request_cancel(), &State::Waiting);
    assert_eq!(run.calls(), [Call::Cancel(1)]);
    assert_eq!(run.resolve(1, "done all the same"), &done(json!("done all the same")));
}

#[test]
fn cancellation_leaves_alone_what_is_not_awaited() {
    let mut run = Run::start(async {
        let later = call("later").start();
        let _ = timer(SECOND).await;
        later.await
    });
    run.calls();
    run.request_cancel();
    assert_eq!(run.calls(), [Call::Cancel(2)]);
    assert_eq!(run.resolve(1, 1), &done(json!(1)));
}

#[test]
fn a_handle_can_be_canceled() {
    let mut run = Run::start(async {
        let mut pending = call("a").start();
        pending.cancel();
        pending.cancel();
        pending.await
    });
    assert!(matches!(run.state(), State::Done(Err(failure)) if failure.is_canceled()));
    assert_eq!(run.calls(), [asked(1, "a"), Call::Cancel(1)]);
}

#[test]
fn continue_as_new_reports_unread_messages_in_the_order_of_arrival() {
    let mut run = Run::start(async {
        for channel in ["b", "a"] {
            let _ = select(timer(Duration::ZERO), message::<u64>(channel)).await;
        }
        call("slow").await?;
        continue_as_new::<Result<(), Failure>>(&json!({"round": 2})).await
    });
    run.resolve(1, Value::Null);
    run.resolve(3, Value::Null);
    run.message(2, "first", 1);
    run.message(4, "second", 2);
    let unread = vec!["first".to_owned(), "second".to_owned()];
    run.calls();
    assert_eq!(run.resolve(5, Value::Null), &State::Continued("{\"round\":2}".to_owned(), unread));
    assert_eq!(run.calls(), []);
}

#[test]
fn what_the_host_refuses_fails_the_await() {
    let mut run = Run::start(async {
        timer(SECOND).await?;
        call("a").await
    });
    run.refuse_next("pending promises");
    assert!(matches!(run.resolve(1, Value::Null), State::Done(Err(failure)) if failure.code == "limit-exceeded"));
}

#[test]
fn a_result_of_another_type_is_a_failure() {
    let mut run = Run::start(async { activity::<u64>("a", &1).await });
    assert!(matches!(run.resolve(1, "text"), State::Done(Err(failure)) if failure.code == "decode-error"));
}

#[test]
fn the_world_is_asked_in_order() {
    let mut run = Run::start(async {
        log::info!("begin {}", 1; answer = 42);
        publish("status", "begun")?;
        assert_eq!(version("change", 1, 3), 3);
        assert!(patched("another"));
        timer(SECOND).await?;
        Ok::<_, Failure>(json!([now().as_secs(), random_u64(), uuid().len(), random_bytes(2).len()]))
    });
    run.set_now(Duration::from_secs(9));
    let asked = [
        Call::Log("begin 1".to_owned()),
        Call::Publish("status".to_owned(), json!("begun")),
        Call::Version("change".to_owned()),
        Call::Version("another".to_owned()),
        Call::Timer(1, SECOND),
    ];
    assert_eq!(run.calls(), asked);
    assert_eq!(run.resolve(1, Value::Null), &done(json!([9, 1, 36, 2])));
}
