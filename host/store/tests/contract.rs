//! The contract suite over the adapters of this crate.

use relive_store::{MemoryStore, OpenOptions, SqliteStore, contract::Store};

fn on_memory(case: fn(&dyn Store)) {
    case(&MemoryStore::new());
}

fn on_sqlite(case: fn(&dyn Store)) {
    let dir = tempfile::tempdir().unwrap();
    case(&SqliteStore::open(dir.path(), OpenOptions::default()).unwrap());
}

mod memory {
    relive_store::contract_suite!(super::on_memory);
}

mod sqlite {
    relive_store::contract_suite!(super::on_sqlite);
}
