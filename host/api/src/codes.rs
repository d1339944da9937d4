//! Which HTTP status an error code gets. The one table of it; routes never choose a status for an error themselves.

use axum::http::StatusCode;
use relive_core::ErrorKind;

/// Every code that the engine, the sandbox and this crate answer with, by status.
pub const CODES: &[(StatusCode, &[&str])] = &[
    (
        StatusCode::BAD_REQUEST,
        &[
            "invalid-json",
            "invalid-name",
            "invalid-query",
            "invalid-body",
            "invalid-path",
            "invalid-grants",
            "invalid-http-activity",
            "invalid-argument",
            "invalid-cursor",
        ],
    ),
    (StatusCode::FORBIDDEN, &["foreign-origin", "unsigned", "wrong-signature"]),
    (
        StatusCode::NOT_FOUND,
        &[
            "unknown-workflow",
            "unknown-version",
            "unknown-execution",
            "unknown-activity",
            "unknown-component",
            "unknown-key",
            "unknown-channel",
            "unknown-route",
            "unknown-task",
            "unknown-step",
            "unknown-worker",
        ],
    ),
    (StatusCode::METHOD_NOT_ALLOWED, &["method-not-allowed"]),
    (StatusCode::REQUEST_TIMEOUT, &["request-timeout"]),
    (
        StatusCode::CONFLICT,
        &[
            "already-started",
            "no-active-version",
            "diverges",
            "try-again",
            "traps",
            "other-export",
            "nothing-to-roll-back",
            "version-in-use",
            "id-reuse-refused",
            "idempotency-mismatch",
            "closed",
            "blocked",
            "not-blocked",
            "not-exhausted",
            "superseded",
            "busy",
        ],
    ),
    (StatusCode::PAYLOAD_TOO_LARGE, &["payload-too-large", "too-large"]),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, &["unsupported-media-type"]),
    (StatusCode::MISDIRECTED_REQUEST, &["foreign-host"]),
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        &[
            "schema-mismatch",
            "wrong-digest",
            "replay-failed",
            "invalid-schema",
            // What admission says of an upload.
            "not-wasm",
            "truncated",
            "invalid",
            "no-metadata",
            "preview1-module",
            "not-componentizable",
            "import-refused",
            "unknown-interface-version",
            "unknown-interface",
            "no-workflow",
            "activity-not-exported",
            "name-not-exported",
            "no-activity-host",
            "function-too-large",
            "nested-too-deep",
            "too-many-data-segments",
            "too-many-element-segments",
            "too-many-functions",
            "too-many-globals",
            "too-many-instances",
            "too-many-items",
            "too-many-memories",
            "too-many-modules",
            "too-many-tables",
            "ambiguous-kind",
            "contract-mismatch",
            "compile-timeout",
            "compile-memory",
            "compile-refused",
            "compile-crashed",
            "instantiate-trap",
            "instantiate-fuel",
            "instantiate-memory",
            "instantiate-stack",
            "instantiate-failed",
            "describe-trap",
            "describe-fuel",
            "describe-memory",
            "describe-stack",
            "describe-failed",
            "describe-invalid",
            "wrong-kind",
        ],
    ),
    (StatusCode::TOO_MANY_REQUESTS, &["history-full", "too-many-workers", "queue-limited"]),
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        &["internal", "corrupt", "unusable", "digest-mismatch", "native-code-unloadable"],
    ),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        &[
            "read-only",
            "store-unavailable",
            "shutting-down",
            "recovering",
            "fenced",
            "not-owner",
            "owner-lost",
            "compile-unavailable",
        ],
    ),
    (StatusCode::INSUFFICIENT_STORAGE, &["no-space"]),
];

/// The status of a code; of an unknown one, what its kind suggests.
#[must_use]
pub fn status_of(code: &str, kind: ErrorKind) -> StatusCode {
    CODES.iter().find(|(_, codes)| codes.contains(&code)).map_or_else(|| by_kind(kind), |(status, _)| *status)
}

fn by_kind(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Validation => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Concurrency => StatusCode::CONFLICT,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::EventStore | ErrorKind::TimerStore | ErrorKind::TaskQueue => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The engine's and the sandbox's codes, as their documentation lists them.
    const PROMISED: &[(&str, u16)] = &[
        ("unknown-workflow", 404),
        ("unknown-execution", 404),
        ("unknown-activity", 404),
        ("unknown-key", 404),
        ("unknown-channel", 404),
        ("already-started", 409),
        ("closed", 409),
        ("idempotency-mismatch", 409),
        ("id-reuse-refused", 409),
        ("blocked", 409),
        ("invalid-json", 400),
        ("invalid-name", 400),
        ("schema-mismatch", 422),
        ("payload-too-large", 413),
        ("history-full", 429),
        ("no-space", 507),
        ("read-only", 503),
        ("store-unavailable", 503),
        ("shutting-down", 503),
        ("not-wasm", 422),
        ("truncated", 422),
        ("no-metadata", 422),
        ("import-refused", 422),
        ("unknown-interface-version", 422),
        ("too-large", 413),
        ("unsupported-media-type", 415),
        ("no-workflow", 422),
    ];

    #[test]
    fn every_promised_code_has_its_status() {
        for (code, status) in PROMISED {
            assert!(CODES.iter().any(|(_, codes)| codes.contains(code)), "{code} is missing from the table");
            assert_eq!(status_of(code, ErrorKind::Unknown).as_u16(), *status, "{code}");
        }
    }

    #[test]
    fn no_code_stands_twice() {
        let mut all: Vec<_> = CODES.iter().flat_map(|(_, codes)| codes.iter()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn an_unknown_code_follows_its_kind() {
        assert_eq!(status_of("new-code", ErrorKind::Validation), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(status_of("new-code", ErrorKind::Unknown), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
