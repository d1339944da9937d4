-- Who deployed a version, and what they say of it.
ALTER TABLE versions ADD COLUMN author TEXT;
ALTER TABLE versions ADD COLUMN note TEXT;

-- Which version new runs of a workflow take, change by change; the last one holds. `canary` is the version that a share of
-- them takes instead, in ten-thousandths, under `limits` (JSON).
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

INSERT INTO activations (namespace, workflow, number, kind, version, at)
    SELECT namespace, workflow, 1, 'activated', version, deployed_at FROM versions WHERE active = 1;

-- What pre-flights of a version found: reports as JSON, the last few of each.
CREATE TABLE preflights (
    namespace TEXT NOT NULL,
    workflow  TEXT NOT NULL,
    version   INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    report    TEXT NOT NULL,
    PRIMARY KEY (namespace, workflow, version, at)
) STRICT, WITHOUT ROWID;
