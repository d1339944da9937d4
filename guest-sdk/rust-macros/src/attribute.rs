//! The options in the attribute's parentheses, and what they default to.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::{Expr, ExprLit, ItemFn, Lit, LitStr, Meta};

/// How a function is to be described.
pub struct Description {
    pub name: LitStr,
    pub summary: Option<LitStr>,
}

/// Longest name that the contract allows, in bytes.
const NAME_MAX: usize = 128;

/// Parse `name = "..", summary = ".."`.
pub fn parse(arguments: TokenStream, function: &ItemFn) -> syn::Result<Description> {
    let ident = &function.sig.ident;
    let mut name = None;
    let mut summary = None;
    let parser = syn::meta::parser(|meta| {
        let slot = if meta.path.is_ident("name") {
            &mut name
        } else if meta.path.is_ident("summary") {
            &mut summary
        } else {
            return Err(
                meta.error("unknown option: expected `name = \"..\"` or `summary = \"..\"`")
            );
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
    Ok(Description {
        name,
        summary: summary.or_else(|| documentation(function)),
    })
}

fn checked(name: LitStr) -> syn::Result<LitStr> {
    let text = name.value();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_MAX || !text.chars().all(allowed) {
        return Err(syn::Error::new(
            name.span(),
            "a name is 1 to 128 letters, digits, `-`, `_` or `.`",
        ));
    }
    Ok(name)
}

/// The first paragraph of the doc comment, as one line.
fn documentation(function: &ItemFn) -> Option<LitStr> {
    let lines = function
        .attrs
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        });
    let paragraph: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    (!paragraph.is_empty()).then(|| LitStr::new(&paragraph.join(" "), function.sig.ident.span()))
}
