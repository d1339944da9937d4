-- The schema after all migrations; written by a test with RELIVE_BLESS=1.

CREATE INDEX executions_by_id ON executions (namespace, workflow_id, key, run_id);

CREATE INDEX executions_by_workflow ON executions (namespace, workflow, key);

CREATE INDEX executions_ended ON executions (status, key) WHERE status > 2;

CREATE INDEX executions_live ON executions (status, key) WHERE status <= 1;

CREATE UNIQUE INDEX executions_open ON executions (namespace, workflow_id) WHERE status <= 1;

CREATE INDEX executions_wake ON executions (key) WHERE status = 0 AND last_inbound_id > applied_through;

CREATE INDEX tasks_exhausted ON tasks (key) WHERE exhausted IS NOT NULL;

CREATE INDEX timers_due ON timers (deadline, key);

CREATE UNIQUE INDEX versions_active ON versions (namespace, workflow) WHERE active = 1;

CREATE UNIQUE INDEX versions_code ON versions (namespace, workflow, digest, export);

CREATE TABLE activations (
    namespace TEXT NOT NULL,
    workflow  TEXT NOT NULL,
    number    INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    version   INTEGER NOT NULL,
    canary    INTEGER,
    share     INTEGER,
    limits    TEXT,
    at        INTEGER NOT NULL,
    author    TEXT,
    reason    TEXT,
    PRIMARY KEY (namespace, workflow, number),
    CHECK ((canary IS NULL) = (share IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE activities (
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    digest      BLOB,
    config      TEXT NOT NULL,
    deployed_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, name),
    CHECK ((kind = 'wasm') = (digest IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    digest BLOB PRIMARY KEY,
    kind   TEXT NOT NULL,
    event  INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE components (
    digest     BLOB PRIMARY KEY,
    size       INTEGER NOT NULL,
    added_at   INTEGER NOT NULL,
    inspection TEXT NOT NULL,
    bytes      BLOB NOT NULL
) STRICT;

CREATE TABLE events (
    key       INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    type      INTEGER NOT NULL,
    codec     INTEGER NOT NULL,
    version   INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    bytes     BLOB NOT NULL
) STRICT;

CREATE TABLE executions (
    key             INTEGER PRIMARY KEY,
    status          INTEGER NOT NULL,
    epoch           INTEGER NOT NULL,
    last_event_id   INTEGER NOT NULL,
    last_timestamp  INTEGER NOT NULL,
    last_inbound_id INTEGER NOT NULL,
    applied_through INTEGER NOT NULL,
    command_count   INTEGER NOT NULL,
    history_bytes   INTEGER NOT NULL,
    log_count       INTEGER NOT NULL,
    crashes         INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,
    closed_at       INTEGER,
    last_hash       BLOB NOT NULL,
    run_id          BLOB NOT NULL,
    digest          BLOB NOT NULL,
    namespace       TEXT NOT NULL,
    workflow_id     TEXT NOT NULL,
    workflow        TEXT NOT NULL,
    blocked         TEXT,
    correlation_id  TEXT
) STRICT;

CREATE TABLE images (
    key   INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE inbound_keys (
    run INTEGER NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    key     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    level   INTEGER NOT NULL,
    message TEXT NOT NULL,
    fields  TEXT NOT NULL
) STRICT;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE preflights (
    namespace TEXT NOT NULL,
    workflow  TEXT NOT NULL,
    version   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    report    TEXT NOT NULL,
    PRIMARY KEY (namespace, workflow, version, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE published (
    run      INTEGER NOT NULL,
    key      TEXT NOT NULL,
    event_id INTEGER NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_queues (
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    rate        REAL,
    burst       INTEGER,
    concurrency INTEGER,
    PRIMARY KEY (namespace, name),
    CHECK ((rate IS NULL) = (burst IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    key          INTEGER PRIMARY KEY,
    event_id     INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    scheduled_at INTEGER NOT NULL
, queue TEXT, claim_secret INTEGER, claim_worker TEXT, claimed_at INTEGER, flags INTEGER NOT NULL DEFAULT 0, details TEXT, options TEXT, exhausted TEXT) STRICT;

CREATE TABLE timers (
    key      INTEGER PRIMARY KEY,
    deadline INTEGER NOT NULL
) STRICT;

CREATE TABLE versions (
    namespace     TEXT NOT NULL,
    workflow      TEXT NOT NULL,
    version       INTEGER NOT NULL,
    digest        BLOB NOT NULL,
    export        TEXT NOT NULL,
    input_schema  TEXT,
    output_schema TEXT,
    active        INTEGER NOT NULL,
    deployed_at   INTEGER NOT NULL, author TEXT, note TEXT, deleted_at INTEGER, signed_by TEXT,
    PRIMARY KEY (namespace, workflow, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
