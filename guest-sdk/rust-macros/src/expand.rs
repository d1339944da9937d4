//! From a function to the function and its table entry. The entry hangs on a type of the function's name: types and
//! functions have separate namespaces, so that the name alone leads to both.

use crate::attribute::{self, Description, Kind};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, PathArguments, ReturnType, Signature, Type};

/// The error, and a stand-in for the entry, so that the error is the only one. A method gets none: an `impl` cannot
/// hold it.
pub fn failed(error: &Error, function: &ItemFn) -> TokenStream {
    let error = error.to_compile_error();
    if function.sig.receiver().is_some() {
        return error;
    }
    let ItemFn { vis, sig: Signature { ident, .. }, .. } = function;
    quote! {
        #error
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        #vis enum #ident {}
        const _: () = {
            impl ::relive_sdk::__private::WorkflowDef for #ident {
                const ENTRY: ::relive_sdk::__private::WorkflowEntry = ::relive_sdk::__private::WorkflowEntry::INVALID;
            }
            impl ::relive_sdk::__private::ActivityDef for #ident {
                const ENTRY: ::relive_sdk::__private::ActivityEntry = ::relive_sdk::__private::ActivityEntry::INVALID;
            }
        };
    }
}

pub fn workflow(arguments: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let description = attribute::parse(arguments, function, Kind::Workflow)?;
    let signature = &function.sig;
    check(signature, "a workflow")?;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span, "a workflow is an `async fn`"));
    }
    let inputs = inputs(signature)?;
    if let Some(extra) = inputs.get(1) {
        return Err(Error::new(extra.span(), "a workflow takes at most one argument, its input"));
    }
    let input = inputs.first().copied();
    if let Some(Type::Reference(reference)) = input {
        return Err(Error::new(reference.span(), "a workflow owns its input: take it by value"));
    }
    let ident = &signature.ident;
    let call = match input {
        Some(ty) => {
            quote_spanned!(ty.span()=> #ident(::relive_sdk::__private::workflow_input::<#ty>(input)?))
        }
        None => quote!(#ident()),
    };
    let (output, wrapped) = output(signature, quote!(::relive_sdk::Failure));
    let future = if wrapped { quote!(async move { ::core::result::Result::Ok(call.await) }) } else { quote!(call) };
    let schemas = schemas(input, &output, &quote!(::relive_sdk::Failure));
    let channels = match &description.channels {
        Some(channels) => quote!(::core::option::Option::Some(&[#(#channels),*])),
        None => quote!(::core::option::Option::None),
    };
    let entry = entry(
        function,
        &description,
        &schemas,
        quote!(WorkflowDef),
        quote!(WorkflowEntry),
        quote! {
            channels: #channels,
            start: |input| {
                let _ = input;
                let call = #call;
                ::core::result::Result::Ok(::relive_sdk::__private::root::<#output>(#future))
            },
        },
    );
    Ok(quote!(#function #entry))
}

pub fn activity(arguments: TokenStream, function: &ItemFn) -> syn::Result<TokenStream> {
    let description = attribute::parse(arguments, function, Kind::Activity)?;
    let signature = &function.sig;
    check(signature, "an activity")?;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(token.span, "an activity is a plain `fn`: it may block"));
    }
    let mut inputs = inputs(signature)?;
    let takes_task = matches!(inputs.first(), Some(Type::Reference(_)));
    let task = takes_task.then(|| inputs.remove(0));
    if let Some(extra) = inputs.get(1) {
        return Err(Error::new(extra.span(), "an activity takes at most two arguments: `&Task` and its input"));
    }
    let input = inputs.first().copied();
    let ident = &signature.ident;
    let task = task.map(|_| quote!(task,));
    let input_argument =
        input.map(|ty| quote_spanned!(ty.span()=> ::relive_sdk::__private::activity_input::<#ty>(input)?));
    let (output, wrapped) = output(signature, quote!(::relive_sdk::ActivityFailure));
    let call = quote!(#ident(#task #input_argument));
    let result = if wrapped { quote!(::core::result::Result::Ok(#call)) } else { call };
    let schemas = schemas(input, &output, &quote!(::relive_sdk::ActivityFailure));
    let entry = entry(
        function,
        &description,
        &schemas,
        quote!(ActivityDef),
        quote!(ActivityEntry),
        quote! {
            run: |task, input| {
                let _ = (task, input);
                ::relive_sdk::__private::activity_output::<#output>(#result)
            },
        },
    );
    Ok(quote!(#function #entry))
}

/// What neither kind can be.
fn check(signature: &Signature, what: &str) -> syn::Result<()> {
    if let Some(parameter) = signature.generics.params.first() {
        return Err(Error::new(parameter.span(), format!("{what} cannot be generic: it is started by name")));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span, format!("{what} cannot be unsafe")));
    }
    Ok(())
}

fn inputs(signature: &Signature) -> syn::Result<Vec<&Type>> {
    fn ty(argument: &FnArg) -> syn::Result<&Type> {
        match argument {
            FnArg::Receiver(receiver) => {
                let message = "this is a free function: it cannot take `self`";
                Err(Error::new(receiver.span(), message))
            }
            FnArg::Typed(typed) => Ok(&typed.ty),
        }
    }
    signature.inputs.iter().map(ty).collect()
}

/// The `Result` type, and whether the function's value is to be wrapped to make one.
fn output(signature: &Signature, error: TokenStream) -> (TokenStream, bool) {
    match &signature.output {
        ReturnType::Type(_, ty) if is_result(ty) => (quote!(#ty), false),
        ReturnType::Type(_, ty) => (quote_spanned!(ty.span()=> ::core::result::Result<#ty, #error>), true),
        ReturnType::Default => (quote!(::core::result::Result<(), #error>), true),
    }
}

/// Any path that ends in `Result`, with or without type arguments: aliases of `Result` are named so.
fn is_result(ty: &Type) -> bool {
    let Type::Path(path) = ty else {
        return false;
    };
    path.path
        .segments
        .last()
        .is_some_and(|last| last.ident == "Result" && !matches!(last.arguments, PathArguments::Parenthesized(_)))
}

fn schemas(input: Option<&Type>, output: &TokenStream, error: &TokenStream) -> TokenStream {
    let input = match input {
        Some(ty) => quote_spanned!(ty.span()=> ::relive_sdk::__private::schema::<#ty>()),
        None => quote!(::core::option::Option::None),
    };
    quote!((#input, ::relive_sdk::__private::result_schema::<#output, #error>()))
}

fn entry(
    function: &ItemFn,
    description: &Description,
    schemas: &TokenStream,
    definition: TokenStream,
    table: TokenStream,
    run: TokenStream,
) -> TokenStream {
    let ItemFn { vis, sig: Signature { ident, .. }, .. } = function;
    let name = &description.name;
    let summary = match &description.summary {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code)]
        #vis enum #ident {}
        #[allow(clippy::unit_arg)]
        impl ::relive_sdk::__private::#definition for #ident {
            const ENTRY: ::relive_sdk::__private::#table = ::relive_sdk::__private::#table {
                name: #name,
                summary: #summary,
                schemas: || #schemas,
                #run
            };
        }
    }
}
