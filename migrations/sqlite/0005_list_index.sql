-- Lists of one workflow's executions, newest first. No step sets these columns: only a start writes to the index.
CREATE INDEX executions_by_workflow ON executions (namespace, workflow, key);
