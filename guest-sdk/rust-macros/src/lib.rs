//! The attribute macros of `relive-sdk`: they check a function's shape, with errors at the line that is wrong, and
//! put a table entry beside it. The function itself stays as written, so it can be called and tested.

mod attribute;
mod expand;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a workflow of an `async fn`.
///
/// The function takes no argument or one, the input (`DeserializeOwned + JsonSchema`), and returns a value
/// (`Serialize + JsonSchema`) or a `Result` of one and an error that converts into `Failure`. Export it with
/// `relive_sdk::workflows![..]`.
///
/// Options: `#[workflow(name = "order", summary = "Takes an order.")]`. The name defaults to the function's, the
/// summary to its documentation.
///
/// `channels = ["go", "stop"]` declares the message channels that the function reads: the host refuses messages to any
/// other, which would wait for ever unseen. `channels = []` takes no messages. Without it, any channel has messages.
#[proc_macro_attribute]
pub fn workflow(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as syn::ItemFn);
    expand::workflow(arguments.into(), &function).unwrap_or_else(|error| expand::failed(&error, &function)).into()
}

/// Makes an activity of a `fn`.
///
/// The function takes the task (`&Task`), the input (`DeserializeOwned + JsonSchema`), both in this order, or none, and
/// returns a value (`Serialize + JsonSchema`) or a `Result` of one and an error that converts into `ActivityFailure`.
/// Export it with `relive_sdk::activities![..]`. Options: `name` and `summary`, as with `workflow`.
#[proc_macro_attribute]
pub fn activity(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as syn::ItemFn);
    expand::activity(arguments.into(), &function).unwrap_or_else(|error| expand::failed(&error, &function)).into()
}
