-- Activities are of kinds: 'wasm', with its component's digest and its grants as config; 'http', with its URL in config.
CREATE TABLE activities_before AS SELECT * FROM activities;
DROP TABLE activities;

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

INSERT INTO activities (namespace, name, kind, digest, config, deployed_at)
SELECT namespace, name, 'wasm', digest, grants, deployed_at FROM activities_before;
DROP TABLE activities_before;
