-- Who deployed a version, and what they say of it.
ALTER TABLE versions ADD COLUMN author text;
ALTER TABLE versions ADD COLUMN note text;

-- Which version new runs of a workflow take, change by change; the last one holds. `canary` is the version that a share of
-- them takes instead, in ten-thousandths, under `limits` (JSON).
CREATE TABLE activations (
    namespace text COLLATE "C" NOT NULL,
    workflow  text COLLATE "C" NOT NULL,
    number    bigint NOT NULL,
    kind      text NOT NULL,
    version   bigint NOT NULL,
    canary    bigint,
    share     bigint,
    limits    text,
    at        bigint NOT NULL,
    author    text,
    reason    text,
    PRIMARY KEY (namespace, workflow, number),
    CHECK ((canary IS NULL) = (share IS NULL))
);

INSERT INTO activations (namespace, workflow, number, kind, version, at)
    SELECT namespace, workflow, 1, 'activated', version, deployed_at FROM versions WHERE active;

-- What pre-flights of a version found: reports as JSON, the last few of each.
CREATE TABLE preflights (
    namespace text COLLATE "C" NOT NULL,
    workflow  text COLLATE "C" NOT NULL,
    version   bigint NOT NULL,
    at        bigint NOT NULL,
    report    text NOT NULL,
    PRIMARY KEY (namespace, workflow, version, at)
);

-- VersionChanged. The rows that there are were checked as they came.
ALTER TABLE events DROP CONSTRAINT events_known_type;
ALTER TABLE events ADD CONSTRAINT events_known_type CHECK (type IN (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 23, 24, 25, 26, 27, 28, 40, 41, 42, 60, 80, 90, 91, 100
)) NOT VALID;
