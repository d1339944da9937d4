-- What operators hold task queues to. rate: attempts per second, with burst. A queue without limits has no row.
CREATE TABLE task_queues (
    namespace   TEXT NOT NULL,
    name        TEXT NOT NULL,
    rate        REAL,
    burst       INTEGER,
    concurrency INTEGER,
    PRIMARY KEY (namespace, name),
    CHECK ((rate IS NULL) = (burst IS NULL))
) STRICT, WITHOUT ROWID;

-- Tasks whose attempts are used up and of which nobody answered the last: when and how, as JSON. They are held until an
-- operator decides.
ALTER TABLE tasks ADD COLUMN exhausted TEXT;
CREATE INDEX tasks_exhausted ON tasks (key) WHERE exhausted IS NOT NULL;
