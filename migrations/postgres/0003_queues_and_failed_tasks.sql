-- What operators hold task queues to. rate: attempts per second, with burst. A queue without limits has no row.
CREATE TABLE task_queues (
    namespace   text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    rate        double precision,
    burst       bigint,
    concurrency bigint,
    PRIMARY KEY (namespace, name),
    CHECK ((rate IS NULL) = (burst IS NULL))
);

-- Tasks whose attempts are used up and of which nobody answered the last: when and how, as JSON. They are held until an
-- operator decides.
ALTER TABLE tasks ADD COLUMN exhausted text;
CREATE INDEX tasks_exhausted ON tasks (key) WHERE exhausted IS NOT NULL;

-- TaskExhausted.
ALTER TABLE events DROP CONSTRAINT events_known_type;
ALTER TABLE events ADD CONSTRAINT events_known_type CHECK (type IN (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22, 23, 24, 25, 26, 27, 28, 40, 41, 42, 60, 80, 90, 91, 100
));
