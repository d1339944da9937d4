-- Events that are too large for their table: their bytes, once each. The row of such an event holds the digest (SHA-256),
-- and its codec is marked with 64. `event`: the key of the event that made it.
CREATE TABLE artifacts (
    digest BLOB PRIMARY KEY,
    kind   TEXT NOT NULL,
    event  INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    bytes  BLOB NOT NULL
) STRICT;
