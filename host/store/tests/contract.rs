//! The contract suite over the adapters of this crate.

use relive_store::{
    MemoryStore, OpenOptions, SqliteStore,
    contract::{SharedStore, Store, database::TestDatabase},
};

fn on_memory(case: fn(&dyn Store)) {
    case(&MemoryStore::new());
}

fn on_sqlite(case: fn(&dyn Store)) {
    let dir = tempfile::tempdir().unwrap();
    case(&SqliteStore::open(dir.path(), OpenOptions::default()).unwrap());
}

fn on_postgres(case: fn(&dyn Store)) {
    if let Some(database) = TestDatabase::migrated() {
        case(&database.store());
    }
}

fn shared_memory(case: fn(&dyn SharedStore)) {
    case(&MemoryStore::new());
}

fn shared_postgres(case: fn(&dyn SharedStore)) {
    if let Some(database) = TestDatabase::migrated() {
        case(&database.store());
    }
}

mod memory {
    relive_store::contract_suite!(super::on_memory);
}

mod sqlite {
    relive_store::contract_suite!(super::on_sqlite);
}

mod postgres {
    relive_store::contract_suite!(super::on_postgres);
}

mod memory_cluster {
    relive_store::cluster_suite!(super::shared_memory);
}

mod postgres_cluster {
    relive_store::cluster_suite!(super::shared_postgres);
}
