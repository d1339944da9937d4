//! Everything that is asked of `wit-component`: components from core modules, WIT text from components.
//!
//! That crate is made for toolchains, not for hostile input, so it only sees bytes that passed the caps and the
//! validator, and a panic in it is an error like any other. Must not know: what the interfaces mean.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wit_component::{ComponentEncoder, WitPrinter};

use super::caps::{MAX_WIT_BYTES, quote};
use super::error::AdmissionError;

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the component's types confuse the toolchain".into()))
}

/// Makes a component of a core module that carries component metadata.
pub(super) fn componentize(module: &[u8]) -> Result<Vec<u8>, AdmissionError> {
    guarded(|| {
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
