//! Messages as they travel: bodies are JSON, ids that follow a request through the system are headers. Readers ignore
//! fields that they do not know, so hosts of two versions can share a queue.

use async_nats::HeaderMap;
use relive_core::{
    Namespace, RunKey,
    ports::{QueueName, TaskMessage},
};
use serde::{Deserialize, Serialize};

use crate::names::{escape, unescape};

/// Headers beside the broker's own. Values are percent-encoded: printable ASCII is itself.
pub(crate) const CORRELATION_ID: &str = "Relive-Correlation-Id";
pub(crate) const TRACE_ID: &str = "Relive-Trace-Id";

#[derive(Serialize, Deserialize)]
struct TaskBody {
    namespace: Namespace,
    queue: String,
    run: u64,
    command_no: u64,
    attempt: u32,
    #[serde(default)]
    republish: u32,
    activity: String,
}

/// The body of a task's message.
pub(crate) fn task_body(task: &TaskMessage) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&TaskBody {
        namespace: task.queue.namespace.clone(),
        queue: task.queue.queue.to_string(),
        run: task.run.0,
        command_no: task.command_no,
        attempt: task.attempt,
        republish: task.republish,
        activity: task.activity.to_string(),
    })
}

/// The task of a message, unless it is not one.
pub(crate) fn task_of(body: &[u8], headers: Option<&HeaderMap>) -> Result<TaskMessage, serde_json::Error> {
    let body: TaskBody = serde_json::from_slice(body)?;
    Ok(TaskMessage {
        queue: QueueName { namespace: body.namespace, queue: body.queue.into() },
        run: RunKey(body.run),
        command_no: body.command_no,
        attempt: body.attempt,
        republish: body.republish,
        activity: body.activity.into(),
        correlation_id: header(headers, CORRELATION_ID),
        trace_id: header(headers, TRACE_ID),
    })
}

/// Sets those headers that there are.
pub(crate) fn headers<'a>(values: impl IntoIterator<Item = (&'static str, Option<&'a str>)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in values {
        if let Some(value) = value {
            map.insert(name, escape(value, '%', |byte| byte.is_ascii_graphic() && byte != b'%'));
        }
    }
    map
}

fn header(headers: Option<&HeaderMap>, name: &'static str) -> Option<std::sync::Arc<str>> {
    let value = headers?.get(name)?;
    unescape(value.as_str(), '%').map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> TaskMessage {
        TaskMessage {
            queue: QueueName { namespace: Namespace::default(), queue: "mail".into() },
            run: RunKey(u64::MAX),
            command_no: 7,
            attempt: 2,
            republish: 1,
            activity: "send".into(),
            correlation_id: Some("order 17\u{e9}".into()),
            trace_id: None,
        }
    }

    #[test]
    fn a_task_comes_back_as_it_was() {
        let task = task();
        let headers = headers([(CORRELATION_ID, task.correlation_id.as_deref()), (TRACE_ID, task.trace_id.as_deref())]);
        assert_eq!(task_of(&task_body(&task).unwrap(), Some(&headers)).unwrap(), task);
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let mut body: serde_json::Value = serde_json::from_slice(&task_body(&task()).unwrap()).unwrap();
        body["later"] = true.into();
        assert_eq!(task_of(body.to_string().as_bytes(), None).unwrap().command_no, 7);
    }

    #[test]
    fn what_is_no_task_is_told() {
        for body in
            ["", "{}", "[1]", r#"{"namespace":"a b","queue":"q","run":1,"command_no":1,"attempt":1,"activity":"x"}"#]
        {
            assert!(task_of(body.as_bytes(), None).is_err(), "{body}");
        }
    }
}
