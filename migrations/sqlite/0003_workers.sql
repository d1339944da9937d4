-- Tasks that workers take: their queue, the claim on the attempt, what the latest heartbeat told, and what operators
-- decided. All of it is empty for tasks that the host runs itself. flags: 1 cancel requested, 2 paused.
ALTER TABLE tasks ADD COLUMN queue TEXT;
ALTER TABLE tasks ADD COLUMN claim_secret INTEGER;
ALTER TABLE tasks ADD COLUMN claim_worker TEXT;
ALTER TABLE tasks ADD COLUMN claimed_at INTEGER;
ALTER TABLE tasks ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN details TEXT;
ALTER TABLE tasks ADD COLUMN options TEXT;
