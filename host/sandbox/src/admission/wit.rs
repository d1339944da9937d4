//! Everything that is asked of `wit-component`: components from core modules, WIT text from components.
//!
//! That crate is made for toolchains, not for hostile input, so it only sees bytes that passed the caps and the
//! validator, and a panic in it is an error like any other. An overflow of the stack would be the process's end: it runs
//! on a large stack of its own, and what would have it recurse for ever is found before. Must not know: what the
//! interfaces mean.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, WitPrinter};
use wit_parser::{PackageId, Resolve};

use super::caps::{MAX_METADATA_BYTES, MAX_WIT_BYTES, quote};
use super::error::AdmissionError;

/// The toolchain recurses once a package that depends on another, and an upload may name tens of thousands. Only what
/// is used of it becomes resident.
const STACK_BYTES: usize = 64 << 20;

fn guarded<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    let confused = || Err("the component's types confuse the toolchain".to_owned());
    std::thread::scope(|scope| {
        let caught = || catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| confused());
        let thread = std::thread::Builder::new().name("relive-wit".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, caught).map_err(|e| format!("no thread for the toolchain: {e}"))?;
        thread.join().unwrap_or_else(|_| confused())
    })
}

/// Which packages name which, over all worlds that a module asks for. Versions do not count: the toolchain takes
/// compatible ones for the same.
#[derive(Default)]
struct Packages(BTreeMap<String, BTreeSet<String>>);

impl Packages {
    fn add(&mut self, resolve: &Resolve) {
        let name = |id: PackageId| {
            let package = &resolve.packages[id].name;
            format!("{}:{}", package.namespace, package.name)
        };
        for (id, _) in resolve.packages.iter() {
            let from = name(id);
            let others = resolve.package_direct_deps(id).map(name).filter(|to| *to != from).collect::<Vec<_>>();
            self.0.entry(from).or_default().extend(others);
        }
    }

    /// Whether a package needs itself by way of others, on which the toolchain would never end.
    fn are_circular(&self) -> bool {
        let known = |others: &BTreeSet<String>| others.iter().filter(|o| self.0.contains_key(*o)).count();
        let mut open: BTreeMap<&str, usize> = self.0.iter().map(|(name, others)| (&**name, known(others))).collect();
        let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, others) in &self.0 {
            others.iter().for_each(|other| users.entry(other).or_default().push(name));
        }
        let mut free: Vec<&str> = open.iter().filter(|(_, needs)| **needs == 0).map(|(name, _)| *name).collect();
        let mut settled = 0;
        while let Some(name) = free.pop() {
            settled += 1;
            for user in users.remove(name).unwrap_or_default() {
                let needs = open.entry(user).or_default();
                *needs = needs.saturating_sub(1);
                if *needs == 0 {
                    free.push(user);
                }
            }
        }
        settled < self.0.len()
    }
}

/// Looks at the worlds that a module asks for before the toolchain puts them together.
fn check_metadata(module: &[u8]) -> Result<(), String> {
    let (mut packages, mut bytes) = (Packages::default(), 0);
    for payload in Parser::new(0).parse_all(module) {
        let Payload::CustomSection(section) = payload.map_err(|e| e.to_string())? else { continue };
        if section.name().starts_with("component-type") {
            bytes += section.data().len();
            if bytes > MAX_METADATA_BYTES {
                return Err(format!("its metadata has more than {MAX_METADATA_BYTES} bytes"));
            }
            let (resolve, _) = wit_parser::decoding::decode_world(section.data()).map_err(|e| format!("{e:#}"))?;
            packages.add(&resolve);
        }
    }
    if packages.are_circular() {
        Err("the packages of its interfaces need each other in a circle".into())
    } else {
        Ok(())
    }
}

/// Makes a component of a core module that carries component metadata.
pub(super) fn componentize(module: &[u8]) -> Result<Vec<u8>, AdmissionError> {
    guarded(|| {
        check_metadata(module)?;
        ComponentEncoder::default()
            .validate(true)
            .module(module)
            .and_then(|encoder| encoder.encode())
            .map_err(|e| format!("{e:#}"))
    })
    .map_err(|message| AdmissionError::Encode { message: quote(&message) })
}

/// The component's world and all that it names, as text. Where it cannot be printed, a comment says why: what runs is
/// decided by the imports and exports, not by this text.
pub(super) fn wit_text(component: &[u8]) -> String {
    let printed = guarded(|| {
        let decoded = wit_component::decode(component).map_err(|e| format!("{e:#}"))?;
        let main = decoded.package();
        let resolve = decoded.resolve();
        let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
        let mut printer = WitPrinter::default();
        printer.print(resolve, main, &others).map_err(|e| format!("{e:#}"))?;
        Ok(printer.output.to_string())
    });
    match printed {
        Ok(mut text) => {
            if text.len() > MAX_WIT_BYTES {
                text.truncate(text.floor_char_boundary(MAX_WIT_BYTES));
                text.push_str("\n// cut here: the text is too long\n");
            }
            text
        }
        Err(message) => format!("// cannot be shown: {}\n", quote(&message)),
    }
}
