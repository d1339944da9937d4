-- The store that hosts share. Rows of a run are keyed by one integer, (run << 24) | number, as in the embedded store; a
-- run's key is (number << 8) | shard, so the shard of any row is arithmetic. Times are nanoseconds since the Unix epoch.
-- Text that is compared is compared by its bytes.

CREATE TABLE meta (
    key   text COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO meta (key, value) VALUES ('catalog_revision', 0);

-- Hosts reserve numbers of runs in blocks of the increment. The last block ends at 2^31 - 1: keys have 39 bits.
CREATE SEQUENCE run_numbers AS bigint INCREMENT BY 1024 MINVALUE 1 MAXVALUE 2147482624 NO CYCLE;

-- status: 0 running, 1 blocked, 2 completed, 3 failed, 4 canceled, 5 terminated, 6 continued-as-new.
-- What a step changes stands in front. `wake` is computed, so that nobody can clear it by mistake; it is false before
-- and after an ordinary step, which therefore touches no index (a heap-only update): the page needs room for one more
-- version of each of its rows, which a batch may all change.
CREATE TABLE executions (
    key             bigint PRIMARY KEY,
    epoch           bigint NOT NULL,
    last_event_id   bigint NOT NULL,
    last_timestamp  bigint NOT NULL,
    last_inbound_id bigint NOT NULL,
    applied_through bigint NOT NULL,
    command_count   bigint NOT NULL,
    history_bytes   bigint NOT NULL,
    log_count       bigint NOT NULL,
    crashes         bigint NOT NULL,
    started_at      bigint NOT NULL,
    closed_at       bigint,
    status          smallint NOT NULL CHECK (status BETWEEN 0 AND 6),
    wake            boolean NOT NULL GENERATED ALWAYS AS (last_inbound_id > applied_through) STORED,
    last_hash       bytea NOT NULL,
    run_id          uuid NOT NULL,
    digest          bytea NOT NULL,
    namespace       text COLLATE "C" NOT NULL,
    workflow_id     text COLLATE "C" NOT NULL,
    workflow        text COLLATE "C" NOT NULL,
    blocked         text,
    correlation_id  text COLLATE "C"
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- One open run a workflow id. Statements that look for a name say `status <= 1` to find this index, statements that know
-- the key say `status < 2` and find the primary key alone: a table that is still empty must not lure the planner into
-- reading an index from end to end. Lists of what is open have one of their own, under a condition of their own.
CREATE UNIQUE INDEX executions_open ON executions (namespace, workflow_id) WHERE status <= 1;
CREATE INDEX executions_by_id ON executions (namespace, workflow_id, key);
CREATE INDEX executions_by_workflow ON executions (namespace, workflow, key);
CREATE INDEX executions_by_correlation ON executions (correlation_id, key) WHERE correlation_id IS NOT NULL;
CREATE INDEX executions_wake ON executions (key) WHERE status = 0 AND wake;
CREATE INDEX executions_live ON executions (key) WHERE status + 0 <= 1;
CREATE INDEX executions_blocked ON executions (key) WHERE status = 1;
CREATE INDEX executions_ended ON executions (status, key) WHERE status > 2;

-- key: (run << 24) | event id; replay is a range of it. A new type of event is a migration of the constraint.
CREATE TABLE events (
    key       bigint PRIMARY KEY,
    timestamp bigint NOT NULL,
    version   integer NOT NULL,
    type      smallint NOT NULL,
    codec     smallint NOT NULL,
    hash      bytea NOT NULL,
    bytes     bytea NOT NULL,
    CONSTRAINT events_known_type CHECK (type IN (
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22, 23, 24, 25, 26, 27, 40, 41, 42, 60, 80, 90, 91, 100
    ))
);

-- Look-ups by type. The four types that make up most of every history are left out: nobody asks for all of them, and
-- their steps would pay for the index.
CREATE INDEX events_by_type ON events (type, key) WHERE type NOT IN (20, 21, 40, 41);

CREATE FUNCTION relive_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION relive_append_only();

REVOKE UPDATE, DELETE, TRUNCATE ON events FROM PUBLIC, CURRENT_USER;

-- key: (run << 24) | command number. flags: 1 cancel requested, 2 paused.
CREATE TABLE tasks (
    key          bigint NOT NULL,
    event_id     bigint NOT NULL,
    attempt      bigint NOT NULL,
    due_at       bigint NOT NULL,
    scheduled_at bigint NOT NULL,
    claim_secret bigint,
    claimed_at   bigint,
    flags        smallint NOT NULL DEFAULT 0,
    shard        smallint NOT NULL GENERATED ALWAYS AS (((key >> 24) & 255)::smallint) STORED,
    queue        text,
    claim_worker text,
    details      text,
    options      text,
    PRIMARY KEY (shard, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

-- key: (run << 24) | command number.
CREATE TABLE timers (
    key      bigint PRIMARY KEY,
    deadline bigint NOT NULL,
    shard    smallint NOT NULL GENERATED ALWAYS AS (((key >> 24) & 255)::smallint) STORED
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

CREATE INDEX timers_due ON timers (shard, deadline, key);

CREATE TABLE inbound_keys (
    run bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (run, key)
);

CREATE TABLE published (
    run      bigint NOT NULL,
    event_id bigint NOT NULL,
    key      text COLLATE "C" NOT NULL,
    value    text NOT NULL,
    PRIMARY KEY (run, key)
);

-- key: (run << 24) | line number. level: 0 trace to 4 error. message: UTF-8, with any character that a guest writes.
-- fields: JSON, an array of [name, value] pairs.
CREATE TABLE logs (
    key     bigint PRIMARY KEY,
    at      bigint NOT NULL,
    level   smallint NOT NULL,
    message bytea NOT NULL,
    fields  text NOT NULL
);

-- Memory images of open runs: a cache, deleted with the end of the run. key: (run << 24) | last event covered.
CREATE TABLE images (
    key   bigint PRIMARY KEY,
    bytes bytea NOT NULL
);
ALTER TABLE images ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE components (
    digest     bytea PRIMARY KEY,
    size       bigint NOT NULL,
    added_at   bigint NOT NULL,
    inspection text NOT NULL,
    bytes      bytea NOT NULL
);
ALTER TABLE components ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE versions (
    namespace     text COLLATE "C" NOT NULL,
    workflow      text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    digest        bytea NOT NULL,
    export        text COLLATE "C" NOT NULL,
    input_schema  text,
    output_schema text,
    active        boolean NOT NULL,
    deployed_at   bigint NOT NULL,
    PRIMARY KEY (namespace, workflow, version)
);

CREATE UNIQUE INDEX versions_active ON versions (namespace, workflow) WHERE active;
CREATE UNIQUE INDEX versions_code ON versions (namespace, workflow, digest, export);

CREATE TABLE activities (
    namespace   text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    kind        text NOT NULL,
    digest      bytea,
    config      text NOT NULL,
    deployed_at bigint NOT NULL,
    PRIMARY KEY (namespace, name),
    CHECK ((kind = 'wasm') = (digest IS NOT NULL))
);
