-- Workers that hosts share. `ended`: stopped, lost, or replaced; then `replaced_by` and, if the worker said which
-- attempts it really has, `holds` (secrets of their claims) go with it. Times are this server's.
CREATE TABLE workers (
    id            text COLLATE "C" PRIMARY KEY,
    registered_at bigint NOT NULL,
    last_seen     bigint NOT NULL,
    ended_at      bigint,
    namespace     text COLLATE "C" NOT NULL,
    identity      text NOT NULL,
    task_queues   text[] NOT NULL,
    activities    text[] NOT NULL,
    sdk           text,
    ended         text CHECK (ended IN ('stopped', 'lost', 'replaced')),
    replaced_by   text COLLATE "C",
    holds         bigint[],
    CHECK ((ended IS NULL) = (ended_at IS NULL)),
    CHECK ((ended IS NOT DISTINCT FROM 'replaced') = (replaced_by IS NOT NULL))
) WITH (fillfactor = 50);

CREATE INDEX workers_by_namespace ON workers (namespace, id);
