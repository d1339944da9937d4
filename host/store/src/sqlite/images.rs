//! Memory images: a table of their own, keyed like events.

use relive_core::{
    RunKey,
    ports::{ImageStore, KEPT_IMAGES, StoreError, StoredImage},
};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::{
    SqliteStore,
    rows::{last_row_key, row_key, split_key},
};

/// Puts an image beside the older ones of its run, and deletes what is beyond the generations kept.
pub(super) fn put(conn: &Connection, image: &StoredImage) -> Result<()> {
    let sql = "INSERT INTO images (key, bytes) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bytes = excluded.bytes";
    conn.prepare_cached(sql)?.execute(params![row_key(image.run, image.event_id), &*image.bytes])?;
    let sql = "DELETE FROM images WHERE key <= (SELECT key FROM images WHERE key BETWEEN ?1 AND ?2 \
               ORDER BY key DESC LIMIT 1 OFFSET ?3) AND key >= ?1";
    let range = (row_key(image.run, 0), last_row_key(image.run));
    conn.prepare_cached(sql)?.execute(params![range.0, range.1, KEPT_IMAGES as i64]).map(|_| ())
}

impl ImageStore for SqliteStore {
    fn save_images(&self, images: &[StoredImage]) -> std::result::Result<(), StoreError> {
        self.writer.write(|conn| {
            let mut open = conn.prepare_cached("SELECT 1 FROM executions WHERE key = ?1 AND status <= 1")?;
            for image in images {
                if open.exists([image.run.0.cast_signed()])? {
                    put(conn, image)?;
                }
            }
            Ok(())
        })
    }

    fn image(&self, run: RunKey, through: u64) -> std::result::Result<Option<StoredImage>, StoreError> {
        self.readers.read(|conn| {
            let sql = "SELECT key, bytes FROM images WHERE key BETWEEN ?1 AND ?2 ORDER BY key DESC LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| {
                let (run, event_id) = split_key(row.get(0)?);
                Ok(StoredImage { run, event_id, bytes: row.get_ref(1)?.as_blob()?.into() })
            };
            conn.prepare_cached(sql)?.query_row([row_key(run, 0), row_key(run, through)], read).optional()
        })
    }

    fn discard_image(&self, run: RunKey, event_id: u64) -> std::result::Result<(), StoreError> {
        let sql = "DELETE FROM images WHERE key = ?1";
        self.writer.write(|conn| conn.prepare_cached(sql)?.execute([row_key(run, event_id)]).map(|_| ()))
    }
}
