//! Starts that look at what the workflow id has had: retries of a request by its idempotency key, and the policies for
//! an open run and for one that has ended. What is compared is the latest run alone; there is no index of keys.

use std::sync::Arc;

use relive_core::{
    Digest, Error, ErrorKind, RunId, WorkflowId,
    event::{Attributes, StartKey},
    ids::{NameError, check_id},
    ports::{ExecutionRow, Status},
};

use super::lookup::store_error;
use crate::{
    engine::Engine,
    requests::{OnConflict, Reuse, StartPolicy, StartRequest, Target},
    views::Started,
};

/// Others may start or end the id between a look and what follows from it, but not again and again.
const TRIES: u32 = 5;
/// Kept in the history of a run that made room.
const MADE_ROOM: &str = "another start of the same workflow id asked for it (on_conflict: terminate-existing)";

/// What a look at the latest run leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Start,
    /// The answer is this run.
    Existing(RunId),
    /// It ends, and then there is another look.
    Terminate,
    AlreadyStarted,
    /// The key was used for another request.
    Mismatch,
    ReuseRefused,
}

impl StartPolicy {
    pub(super) fn looks_first(&self) -> bool {
        self.request_id.is_some() || self.on_conflict != OnConflict::Fail || self.reuse != Reuse::Allow
    }

    fn check(&self) -> Result<(), Error> {
        if let Some(id) = &self.request_id {
            check_id(id, "idempotency key").map_err(invalid_name)?;
        }
        if self.on_conflict == OnConflict::TerminateExisting && self.reuse == Reuse::Reject {
            let message = "reuse `reject` leaves nothing to start after on_conflict `terminate-existing`; choose one";
            return Err(Error::new(ErrorKind::Validation, "invalid-argument", message));
        }
        Ok(())
    }

    /// `key` is this request's, `held` the latest run's.
    fn decide(&self, status: Status, run: RunId, key: Option<&StartKey>, held: Option<&StartKey>) -> Decision {
        if let (Some(key), Some(held)) = (key, held)
            && key.request_id == held.request_id
        {
            return if key.request == held.request { Decision::Existing(held.run_id) } else { Decision::Mismatch };
        }
        match (status.is_open(), self.on_conflict, self.reuse) {
            (true, OnConflict::Fail, _) => Decision::AlreadyStarted,
            (true, OnConflict::UseExisting, _) => Decision::Existing(run),
            (true, OnConflict::TerminateExisting, _) => Decision::Terminate,
            (false, _, Reuse::Reject) => Decision::ReuseRefused,
            (false, _, Reuse::AllowFailedOnly) if status == Status::Completed => Decision::ReuseRefused,
            (false, _, Reuse::Allow | Reuse::AllowFailedOnly) => Decision::Start,
        }
    }
}

impl Engine {
    /// Looks, and starts if the policy says so. On a task of its own: a caller that goes away in the middle must not
    /// let go of the lock while the start is on its way.
    pub(super) async fn start_looking(&self, mut request: StartRequest) -> Result<Started, Error> {
        request.policy.check()?;
        let id = match (&request.workflow_id, &request.policy.request_id) {
            (Some(id), _) => id.clone(),
            (None, Some(key)) => derived_id(key)?,
            // A fresh id has had no run.
            (None, None) => return self.start_new(request).await,
        };
        request.workflow_id = Some(id.clone());
        let engine = self.clone();
        let task = async move {
            let _turn = engine.context.starts.lock(&request.namespace, &id).await;
            engine.start_locked(request, id).await
        };
        tokio::spawn(task).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a start ended badly");
            Err(Error::new(ErrorKind::Unknown, "internal", "the host failed to do it; see its log"))
        })
    }

    async fn start_locked(&self, request: StartRequest, id: WorkflowId) -> Result<Started, Error> {
        let target = Target { namespace: request.namespace.clone(), workflow_id: id, run_id: None };
        let mut last = None;
        for _ in 0..TRIES {
            let Some((row, held)) = self.latest(target.clone(), request.policy.request_id.is_some()).await? else {
                match self.start_new(request.clone()).await {
                    Err(error) if error.code == "already-started" => last = Some(error),
                    answer => return answer,
                }
                continue;
            };
            let run_id = row.execution.run_id;
            let key = request.policy.request_id.as_deref();
            let key = key.map(|key| StartKey::new(key, run_id, &request.workflow, &request.input));
            match request.policy.decide(row.status, run_id, key.as_ref(), held.as_deref()) {
                Decision::Start => match self.start_new(request.clone()).await {
                    Err(error) if error.code == "already-started" => last = Some(error),
                    answer => return answer,
                },
                Decision::Existing(run_id) => {
                    return Ok(Started { workflow_id: target.workflow_id.to_string(), run_id, existing: true });
                }
                Decision::Terminate => {
                    let target = Target { run_id: Some(run_id), ..target.clone() };
                    match self.terminate(target, MADE_ROOM.to_owned()).await {
                        Err(error) if error.code != "closed" => return Err(error),
                        _ => {}
                    }
                }
                refused => return Err(refusal(refused, &row)),
            }
        }
        Err(last.unwrap_or_else(|| {
            let message = "the workflow id is started and ended by others all the time; try again";
            Error::new(ErrorKind::Concurrency, "already-started", message)
        }))
    }

    /// The open run of the workflow id, else its latest; with the key of its start, if that is asked for.
    async fn latest(
        &self,
        target: Target,
        with_key: bool,
    ) -> Result<Option<(ExecutionRow, Option<Arc<StartKey>>)>, Error> {
        self.blocking(move |engine| {
            let store = &engine.context.store;
            let Some(row) = store.find(&target.namespace, &target.workflow_id, None).map_err(store_error)? else {
                return Ok(None);
            };
            if !with_key {
                return Ok(Some((row, None)));
            }
            let first = store.read_from(row.key, 1, 1).map_err(store_error)?.pop();
            let started = first.and_then(|event| match event.decode().ok()?.body.attributes {
                // A fork's copied start names the run that it was copied from.
                Attributes::ExecutionStarted(a) if a.execution == row.execution => a.start_key,
                _ => None,
            });
            Ok(Some((row, started)))
        })
        .await
    }
}

/// The workflow id of a start that names none: the same for the same key.
pub fn derived_id(key: &str) -> Result<WorkflowId, Error> {
    let digest = Digest::of(key.as_bytes()).to_string();
    WorkflowId::new(&format!("request-{}", digest.get(..32).unwrap_or(&digest))).map_err(invalid_name)
}

fn invalid_name(error: NameError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-name", error.to_string())
}

fn refusal(decision: Decision, row: &ExecutionRow) -> Error {
    let run = row.execution.run_id;
    let (code, message) = match decision {
        Decision::Mismatch => (
            "idempotency-mismatch",
            format!("the idempotency key was used for run {run} with another workflow or input; take a fresh key"),
        ),
        Decision::ReuseRefused => (
            "id-reuse-refused",
            format!("the workflow id was used by run {run} ({}), and `reuse` refuses that", row.status.name()),
        ),
        _ => (
            "already-started",
            format!("the workflow id is taken by the open run {run}; choose another id, or wait for that run"),
        ),
    };
    Error::new(ErrorKind::Concurrency, code, message).at(&row.execution)
}

#[cfg(test)]
mod tests {
    use relive_core::Json;

    use super::*;

    fn run(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn policy(on_conflict: OnConflict, reuse: Reuse) -> StartPolicy {
        StartPolicy { request_id: None, on_conflict, reuse }
    }

    #[test]
    fn the_policies_decide_by_how_the_latest_run_stands() {
        use Decision::*;
        use OnConflict::*;
        use Reuse::*;
        let decide = |policy: StartPolicy, status| policy.decide(status, run(1), None, None);
        for (policy, open, completed, failed) in [
            (policy(Fail, Allow), AlreadyStarted, Start, Start),
            (policy(UseExisting, Allow), Existing(run(1)), Start, Start),
            (policy(TerminateExisting, Allow), Terminate, Start, Start),
            (policy(Fail, AllowFailedOnly), AlreadyStarted, ReuseRefused, Start),
            (policy(UseExisting, AllowFailedOnly), Existing(run(1)), ReuseRefused, Start),
            (policy(Fail, Reject), AlreadyStarted, ReuseRefused, ReuseRefused),
            (policy(UseExisting, Reject), Existing(run(1)), ReuseRefused, ReuseRefused),
        ] {
            assert_eq!(decide(policy.clone(), Status::Running), open, "{policy:?}");
            assert_eq!(decide(policy.clone(), Status::Blocked), open, "{policy:?}");
            assert_eq!(decide(policy.clone(), Status::Completed), completed, "{policy:?}");
            for ended in [Status::Failed, Status::Canceled, Status::Terminated] {
                assert_eq!(decide(policy.clone(), ended), failed, "{policy:?}");
            }
        }
        assert!(policy(TerminateExisting, Reject).check().is_err());
    }

    #[test]
    fn a_key_outweighs_the_policies_and_is_bound_to_its_request() {
        let json = |text: &str| Json::parse(text).expect("JSON");
        let policy = policy(OnConflict::TerminateExisting, Reuse::Allow);
        let held = StartKey::new("k", run(7), "w", &json(r#"{"a":1,"b":2}"#));
        let decide = |id: &str, workflow: &str, input: &str, status| {
            let key = StartKey::new(id, run(1), workflow, &json(input));
            policy.decide(status, run(1), Some(&key), Some(&held))
        };
        for status in Status::ALL {
            assert_eq!(decide("k", "w", r#"{ "b": 2.0, "a": 1 }"#, status), Decision::Existing(run(7)));
            assert_eq!(decide("k", "w", r#"{"a":1}"#, status), Decision::Mismatch);
            assert_eq!(decide("k", "v", r#"{"a":1,"b":2}"#, status), Decision::Mismatch);
        }
        assert_eq!(decide("other", "w", "1", Status::Running), Decision::Terminate);
        assert_eq!(decide("other", "w", "1", Status::Completed), Decision::Start);
    }

    #[test]
    fn a_key_gives_a_workflow_id() {
        let id = derived_id("order 17").expect("an id");
        assert_eq!(id, derived_id("order 17").expect("an id"));
        assert_ne!(id, derived_id("order 18").expect("an id"));
        assert_eq!(id.as_str().len(), "request-".len() + 32);
    }
}
