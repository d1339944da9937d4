//! What the workers did, as they wrote it down: one line an effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::common::python::rows;

/// By order: the effects, as (idempotency key, attempt).
pub struct Effects(BTreeMap<String, Vec<(String, u64)>>);

pub fn read(file: &Path) -> Effects {
    let mut effects: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for row in rows(file) {
        let key = row["key"].as_str().expect("a key").to_owned();
        let order = key.split(':').nth(1).expect("namespace:workflow_id:run_id:command_no").to_owned();
        effects.entry(order).or_default().push((key, row["attempt"].as_u64().expect("an attempt")));
    }
    Effects(effects)
}

/// What hosts' own activities did: a line each, of the key and the attempt. Steps of an order by their command numbers.
pub fn ledger(file: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut steps: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(file).expect("a ledger").lines() {
        let key = line.split(' ').next().expect("a key");
        let parts: Vec<&str> = key.split(':').collect();
        steps.entry(parts[1].to_owned()).or_default().insert(parts[3].to_owned());
    }
    steps
}

impl Effects {
    /// Orders that no worker ever had.
    pub fn missing(&self, orders: &[String]) -> Vec<String> {
        orders.iter().filter(|order| !self.0.contains_key(*order)).cloned().collect()
    }

    /// Attempts that were run twice: a claim is one worker's. Several attempts of one key are what retries are, several
    /// keys of one order are two runs.
    pub fn doubled(&self) -> Vec<String> {
        let mut doubled = Vec::new();
        for (order, effects) in &self.0 {
            let keys: BTreeSet<&str> = effects.iter().map(|(key, _)| key.as_str()).collect();
            let attempts: BTreeSet<_> = effects.iter().collect();
            if keys.len() > 1 || attempts.len() < effects.len() {
                doubled.push(format!("{order}: {effects:?}"));
            }
        }
        doubled
    }
}
