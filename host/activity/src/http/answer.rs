//! What an answer means: a result, or a failure and whether another attempt may help. Pure.

use http::StatusCode;
use relive_core::{
    failure::{Failure, FailureKind},
    json::Json,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failures::{MAX_CODE_BYTES, MAX_MESSAGE_BYTES, code, cut, permanent};

/// Bytes of an error's body that are looked at: a failure with its details, no page of HTML.
pub(super) const MAX_FAILURE_BYTES: usize = 64 << 10;

/// Characters of an error's body that are quoted where it is no failure of ours.
const MAX_QUOTE: usize = 256;

/// What is to be done with an answer once its status is known.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Its body is the result.
    Result,
    /// The answer comes later, by token; the body does not matter.
    Accepted,
    /// Its body may say why it failed.
    Failure,
    /// Its body does not matter.
    Refused(Failure),
}

pub(super) fn verdict(status: StatusCode, url: &str) -> Verdict {
    let refused = |code, what: &str| Verdict::Refused(permanent(code, format!("POST {url} answered {status}: {what}")));
    match status {
        StatusCode::ACCEPTED => Verdict::Accepted,
        status if status.is_success() => Verdict::Result,
        status if status.is_redirection() => {
            refused(code::REDIRECT_REFUSED, "redirects are not followed; deploy the activity with the final URL")
        }
        status if status.is_client_error() || status.is_server_error() => Verdict::Failure,
        _ => refused(code::UNEXPECTED_STATUS, "it is neither a result nor an error"),
    }
}

/// The result in the body of a success; an empty body is `null`.
pub(super) fn result(body: &[u8], url: &str) -> Result<Json, Failure> {
    if body.is_empty() {
        return Ok(Json::null());
    }
    let wrong = |what: String| permanent(code::INVALID_RESULT, format!("POST {url} answered no JSON: {what}"));
    let text = std::str::from_utf8(body).map_err(|e| wrong(e.to_string()))?;
    Json::parse(text).map_err(|e| wrong(e.to_string()))
}

/// The failure as a receiver writes it. Members beside these are its own business.
#[derive(Deserialize)]
struct Reported<'a> {
    code: String,
    message: String,
    #[serde(borrow, default)]
    details: Option<&'a RawValue>,
    #[serde(default)]
    retryable: Option<bool>,
}

/// The failure of an answer with an error's status. What a 5xx says is the target's trouble, whatever code it names;
/// what a 4xx says is about this task.
pub(super) fn failure(status: StatusCode, body: &[u8], url: &str) -> Failure {
    let kind = if status.is_server_error() { FailureKind::Infrastructure } else { FailureKind::Application };
    let retryable = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    if let Ok(reported) = serde_json::from_slice::<Reported<'_>>(body)
        && !reported.code.is_empty()
    {
        return Failure {
            kind,
            code: cut(reported.code, MAX_CODE_BYTES),
            message: cut(reported.message, MAX_MESSAGE_BYTES),
            details: reported.details.and_then(|details| Json::parse(details.get()).ok()),
            retryable: reported.retryable.unwrap_or(retryable),
        };
    }
    let message = match quote(body) {
        quoted if quoted.is_empty() => format!("POST {url} answered {status}"),
        quoted => format!("POST {url} answered {status}: {quoted}"),
    };
    let code = format!("http-{}", status.as_u16());
    Failure { retryable, ..Failure::new(kind, &code, cut(message, MAX_MESSAGE_BYTES)) }
}

/// The beginning of a body in one line, for people.
fn quote(body: &[u8]) -> String {
    let head = &body[..body.len().min(4 * MAX_QUOTE)];
    let text = String::from_utf8_lossy(head);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(MAX_QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://a.example/";

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    #[test]
    fn a_status_decides_what_is_done_with_the_body() {
        for (code, expected) in [(200, Verdict::Result), (201, Verdict::Result), (204, Verdict::Result)] {
            assert_eq!(verdict(status(code), URL), expected);
        }
        assert_eq!(verdict(status(202), URL), Verdict::Accepted);
        for code in [400, 404, 408, 425, 429, 499, 500, 503, 599] {
            assert_eq!(verdict(status(code), URL), Verdict::Failure);
        }
        for (code, expected) in [
            (301, code::REDIRECT_REFUSED),
            (302, code::REDIRECT_REFUSED),
            (304, code::REDIRECT_REFUSED),
            (307, code::REDIRECT_REFUSED),
            (101, code::UNEXPECTED_STATUS),
            (999, code::UNEXPECTED_STATUS),
        ] {
            let Verdict::Refused(failure) = verdict(status(code), URL) else { panic!("{code}") };
            assert_eq!((failure.code.as_str(), failure.retryable), (expected, false));
        }
    }

    #[test]
    fn a_result_is_kept_as_it_came() {
        assert_eq!(result(b" {\"a\": 1.0}\n", URL).expect("JSON").as_str(), "{\"a\": 1.0}");
        assert_eq!(result(b"", URL), Ok(Json::null()));
        for body in [&b"<html>"[..], b"{\"a\":1,\"a\":2}", b"\xff", b" ", b"1 2"] {
            let failure = result(body, URL).expect_err("no JSON");
            assert_eq!((failure.code.as_str(), failure.retryable), (code::INVALID_RESULT, false));
        }
    }

    #[test]
    fn errors_are_retryable_by_their_status() {
        for (code, retryable, kind) in [
            (400, false, FailureKind::Application),
            (404, false, FailureKind::Application),
            (408, true, FailureKind::Application),
            (425, true, FailureKind::Application),
            (429, true, FailureKind::Application),
            (500, true, FailureKind::Infrastructure),
            (503, true, FailureKind::Infrastructure),
        ] {
            let failure = failure(status(code), b"<h1>no\r\n  way</h1>", URL);
            assert_eq!((failure.retryable, failure.kind, failure.code), (retryable, kind, format!("http-{code}")));
            assert!(failure.message.ends_with(": <h1>no way</h1>"), "{}", failure.message);
        }
    }

    #[test]
    fn a_failure_in_the_body_is_taken() {
        let body = br#"{"code":"card-declined","message":"no","details":{"a":[1.0]},"retryable":false,"more":1}"#;
        let taken = failure(status(500), body, URL);
        assert_eq!((taken.code.as_str(), taken.message.as_str(), taken.retryable), ("card-declined", "no", false));
        assert_eq!(taken.details.expect("details").as_str(), "{\"a\":[1.0]}");
        let taken = failure(status(422), br#"{"code":"later","message":"","retryable":true}"#, URL);
        assert_eq!((taken.kind, taken.code.as_str(), taken.retryable), (FailureKind::Application, "later", true));
        for body in [&br#"{"code":1,"message":"no"}"#[..], br#"{"code":"","message":"no"}"#, br#"{"message":"no"}"#] {
            assert_eq!(failure(status(400), body, URL).code, "http-400");
        }
        let long = format!(r#"{{"code":"{}","message":"{}"}}"#, "c".repeat(500), "m".repeat(50_000));
        let taken = failure(status(400), long.as_bytes(), URL);
        assert!(taken.code.len() <= MAX_CODE_BYTES + 3 && taken.message.len() <= MAX_MESSAGE_BYTES + 3);
    }
}
