-- Memory images of open runs: a cache, deleted with the end of the run. key: (run << 24) | last event covered.
CREATE TABLE images (
    key   INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
