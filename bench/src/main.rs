//! The benchmark: the figures that docs/benchmarks.md explains, into the file that `RELIVE_BENCH_OUT` names and a
//! table. Hosts are processes of their own, reached over HTTP; their data lies on a real disk.
//!
//! Owns the measuring; must not know how the host works inside, but for the figures of the sandbox and the raw store.

mod cluster;
mod crowds;
mod figures;
mod host;
mod http;
mod raw;
mod switches;
mod turns;
mod versions;
mod wake;
mod workers;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;

/// Figures by name, as they are written.
pub type Figures = BTreeMap<&'static str, f64>;

fn main() -> anyhow::Result<()> {
    let out: PathBuf = std::env::var_os("RELIVE_BENCH_OUT").unwrap_or("bench/out/latest.json".into()).into();
    let only = std::env::args().nth(1);
    if only.as_deref() == Some(workers::WORKER) {
        return workers::work(&std::env::args().nth(2).context("the host's address")?);
    }
    let folder = out.parent().context("the output's folder")?.to_owned();
    let disk = std::env::var_os("RELIVE_BENCH_DIR").map_or(folder, PathBuf::from);
    let mut all = Figures::new();
    for (name, measure) in figures::ALL {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        eprintln!("{name} ..");
        let data = tempfile::tempdir_in(&disk).context("a data directory")?;
        let figures = measure(data.path()).with_context(|| format!("failed to measure {name}"))?;
        for (name, value) in &figures {
            println!("{name:32} {value:>14.3}");
        }
        all.extend(figures);
    }
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(&out, text + "\n").with_context(|| format!("write {}", out.display()))
}
