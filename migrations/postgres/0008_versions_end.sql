-- When a version was deleted: new runs cannot take it any more, and its number is nobody else's. Who signed it, in keys.
ALTER TABLE versions ADD COLUMN deleted_at bigint;
ALTER TABLE versions ADD COLUMN signed_by text;
