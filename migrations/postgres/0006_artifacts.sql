-- Events that are too large for their table: their bytes, once each. The row of such an event holds the digest (SHA-256),
-- and its codec is marked with 64. `event`: the key of the event that made it.
CREATE TABLE artifacts (
    digest bytea PRIMARY KEY,
    kind   text NOT NULL,
    event  bigint NOT NULL,
    size   bigint NOT NULL,
    bytes  bytea NOT NULL
);
ALTER TABLE artifacts ALTER COLUMN bytes SET STORAGE EXTERNAL;
