//! What the macros refuse, with which words and at which line and column. What they accept is compiled by the SDK's
//! own tests and by the examples.

use crate::expand;
use std::str::FromStr;
use syn::spanned::Spanned;

type Expand = fn(proc_macro2::TokenStream, &syn::ItemFn) -> syn::Result<proc_macro2::TokenStream>;

/// Expands the function with these options; the error must read so, and point at this place of this text.
#[track_caller]
fn refused(expand: Expand, options: &str, function: &str, at: &str, expected: &str) {
    let options = proc_macro2::TokenStream::from_str(options).expect("options are tokens");
    let item: syn::ItemFn = syn::parse_str(function).expect("a function");
    let error = expand(options.clone(), &item).expect_err("it is refused");
    assert_eq!(error.to_string(), expected);
    let place = error.span().start();
    let source = if options.is_empty() { item.span() } else { options.span() };
    assert!(source.start().line <= place.line, "no place: {place:?}");
    let text = error.span().source_text().expect("a place in the text");
    assert_eq!(text, at);
    let compiled = expand::failed(&error, &item).to_string();
    assert!(compiled.contains("compile_error"), "{compiled}");
}

#[test]
fn a_workflow_is_async() {
    let function = "\n\nfn order(_input: u32) {}";
    refused(expand::workflow, "", function, "fn", "a workflow is an `async fn`");
}

#[test]
fn an_activity_is_not_async() {
    let function = "async fn charge() {}";
    refused(expand::activity, "", function, "async", "an activity is a plain `fn`: it may block");
}

#[test]
fn a_workflow_takes_one_argument() {
    let function = "async fn order(\n    _a: u32,\n    _b: u64,\n) {}";
    refused(expand::workflow, "", function, "u64", "a workflow takes at most one argument, its input");
}

#[test]
fn an_activity_takes_the_task_and_one_argument() {
    let expected = "an activity takes at most two arguments: `&Task` and its input";
    refused(expand::activity, "", "fn charge(_t: &Task, _a: u32, _b: u64) {}", "u64", expected);
    refused(expand::activity, "", "fn charge(_a: u32, _b: u64) {}", "u64", expected);
}

#[test]
fn neither_is_generic() {
    let expected = "a workflow cannot be generic: it is started by name";
    refused(expand::workflow, "", "async fn order<T>(_input: T) {}", "T", expected);
    let expected = "an activity cannot be generic: it is started by name";
    refused(expand::activity, "", "fn charge<'a>(_input: &'a str) {}", "'a", expected);
}

#[test]
fn neither_is_a_method() {
    let expected = "this is a free function: it cannot take `self`";
    refused(expand::workflow, "", "async fn order(self) {}", "self", expected);
    refused(expand::activity, "", "fn charge(&self) {}", "&self", expected);
}

#[test]
fn a_workflow_owns_its_input() {
    let expected = "a workflow owns its input: take it by value";
    refused(expand::workflow, "", "async fn order(_input: &str) {}", "&str", expected);
}

#[test]
fn options_are_known_given_once_and_well_formed() {
    let function = "async fn order() {}";
    let unknown = "unknown option: expected `name = \"..\"`, `summary = \"..\"` or `channels = [\"..\"]`";
    refused(expand::workflow, "nmae = \"order\"", function, "nmae", unknown);
    let unknown = "unknown option: expected `name = \"..\"` or `summary = \"..\"`";
    refused(expand::activity, "channels = []", "fn charge() {}", "channels", unknown);
    refused(expand::workflow, "name = \"a\", name = \"b\"", function, "name", "given twice");
    refused(expand::workflow, "summary = 1", function, "1", "expected string literal");
    let name = "a name is 1 to 128 letters, digits, `-`, `_` or `.`";
    refused(expand::workflow, "name = \"no spaces\"", function, "\"no spaces\"", name);
}

#[test]
fn channels_are_names_that_stand_in_the_list_once() {
    #[track_caller]
    fn refuse(options: &str, at: &str, expected: &str) {
        let function = "async fn order() {}";
        refused(expand::workflow, options, function, at, expected);
    }
    let twice = "the channel stands in the list twice";
    refuse("channels = [\"go\", \"stop\",\n\"\\x67o\"]", "\"\\x67o\"", twice);
    let form = "a channel is 1 to 256 bytes of printable characters";
    refuse("channels = [\"go\",\n\"\"]", "\"\"", form);
    refuse("channels = [\"a\\nb\"]", "\"a\\nb\"", form);
    let long = format!("\"{}\"", "c".repeat(257));
    refuse(&format!("channels = [{long}]"), &long, form);
    let many: Vec<String> = (0..1_001).map(|n| format!("\"{n}\"")).collect();
    let most = "a workflow declares at most 1,000 channels";
    refuse(&format!("channels = [{}]", many.join(",")), "\"1000\"", most);
    let literal = "expected string literal";
    refuse("channels = [\"go\", STOP]", "STOP", literal);
    refuse("channels = \"go\"", "\"go\"", "expected square brackets");
    refuse("channels = [], channels = []", "channels", "given twice");
}

#[test]
fn channels_stand_in_the_entry_or_none_do() {
    let entry = |options: &str| {
        let options = proc_macro2::TokenStream::from_str(options).expect("options are tokens");
        let item = syn::parse_str("async fn order() {}").expect("a function");
        let code = expand::workflow(options, &item).expect("expands");
        code.to_string()
    };
    let declared = entry("channels = [\"go\", \"no spaces?\",]");
    assert!(declared.contains("Some (& [\"go\" , \"no spaces?\"])"), "{declared}");
    assert!(entry("channels = []").contains("Some (& [])"));
    assert!(entry("").contains("channels : :: core :: option :: Option :: None"));
}

#[test]
fn the_first_paragraph_of_the_documentation_is_the_summary() {
    let item: syn::ItemFn =
        syn::parse_str("/// Takes\n/// an order.\n///\n/// More.\nasync fn order() {}").expect("parses");
    let code = expand::workflow(proc_macro2::TokenStream::new(), &item).expect("expands").to_string();
    assert!(code.contains("Some (\"Takes an order.\")"), "{code}");
}
