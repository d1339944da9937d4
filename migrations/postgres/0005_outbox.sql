-- Events that other systems have not been told of, where the event feed is on. key: (run << 24) | the first event id of an
-- append; `last`: its last one. Written with the events, deleted once a broker has them.
CREATE TABLE outbox (
    key   bigint PRIMARY KEY,
    last  bigint NOT NULL,
    shard smallint NOT NULL GENERATED ALWAYS AS (((key >> 24) & 255)::smallint) STORED
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

CREATE INDEX outbox_by_shard ON outbox (shard, key);
