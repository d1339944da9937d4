//! The options in the attribute's parentheses, and what they default to.

use proc_macro2::TokenStream;
use std::collections::HashSet;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, ItemFn, Lit, LitStr, Meta, Token};

/// How a function is to be described.
pub struct Description {
    pub name: LitStr,
    pub summary: Option<LitStr>,
    /// Of a workflow: the channels that it reads; any if `None`.
    pub channels: Option<Vec<LitStr>>,
}

/// What is described.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Workflow,
    Activity,
}

/// Longest name that the contract allows, in bytes.
const NAME_MAX: usize = 128;

/// Longest channel name that the host accepts, in bytes.
const CHANNEL_MAX: usize = 256;

/// Most channels that the host accepts of a workflow.
const CHANNELS_MAX: usize = 1_000;

/// Parse `name = "..", summary = ".."`, and of a workflow `channels = [".."]`.
pub fn parse(arguments: TokenStream, function: &ItemFn, kind: Kind) -> syn::Result<Description> {
    let ident = &function.sig.ident;
    let mut name = None;
    let mut summary = None;
    let mut channels = None;
    let parser = syn::meta::parser(|meta| {
        if kind == Kind::Workflow && meta.path.is_ident("channels") {
            if channels.is_some() {
                return Err(meta.error("given twice"));
            }
            channels = Some(channel_list(meta.value()?)?);
            return Ok(());
        }
        let slot = if meta.path.is_ident("name") {
            &mut name
        } else if meta.path.is_ident("summary") {
            &mut summary
        } else {
            return Err(meta.error(match kind {
                Kind::Workflow => {
                    "unknown option: expected `name = \"..\"`, `summary = \"..\"` or `channels = [\"..\"]`"
                }
                Kind::Activity => "unknown option: expected `name = \"..\"` or `summary = \"..\"`",
            }));
        };
        if slot.is_some() {
            return Err(meta.error("given twice"));
        }
        *slot = Some(meta.value()?.parse::<LitStr>()?);
        Ok(())
    });
    parser.parse2(arguments)?;
    let name = match name {
        Some(name) => checked(name)?,
        None => LitStr::new(ident.to_string().trim_start_matches("r#"), ident.span()),
    };
    Ok(Description { name, summary: summary.or_else(|| documentation(function)), channels })
}

fn checked(name: LitStr) -> syn::Result<LitStr> {
    let text = name.value();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(allowed) {
        return Err(syn::Error::new(name.span(), "a name is 1 to 128 letters, digits, `-`, `_` or `.`"));
    }
    Ok(name)
}

/// `["go", "stop"]`, which may be empty.
fn channel_list(input: ParseStream) -> syn::Result<Vec<LitStr>> {
    let content;
    syn::bracketed!(content in input);
    let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
    let mut seen = HashSet::new();
    for (index, channel) in list.iter().enumerate() {
        let text = channel.value();
        let refuse = |message: &str| Err(syn::Error::new(channel.span(), message));
        if text.is_empty() || text.len() > CHANNEL_MAX || text.chars().any(char::is_control) {
            return refuse("a channel is 1 to 256 bytes of printable characters");
        }
        if index == CHANNELS_MAX {
            return refuse("a workflow declares at most 1,000 channels");
        }
        if !seen.insert(text) {
            return refuse("the channel stands in the list twice");
        }
    }
    Ok(list.into_iter().collect())
}

/// The first paragraph of the doc comment, as one line.
fn documentation(function: &ItemFn) -> Option<LitStr> {
    let lines = function.attrs.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    (!paragraph.is_empty()).then(|| LitStr::new(&paragraph.join(" "), function.sig.ident.span()))
}
