//! The attribute macro of `millstream-sdk`.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, Item, ItemFn, ItemImpl, Type};

/// Makes the crate's plugin out of a function or of an `impl Transform`.
///
/// - `#[transform] fn name(record: Record, out: &mut Output) -> Result<()>` for a transform without state. A third
///   parameter, `config: &Config`, is the pipeline's configuration. The attribute makes a type of the function's
///   name, for the tests.
/// - `#[transform] impl Transform for Name { … }` for one with state.
/// - `#[transform(typed)]` exports the contract's plain form instead of the fast one.
///
/// A crate has one of them: a component exports each interface once.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&arguments.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes the crate's plugin out of a function that consumes: `#[sink] fn name(sink: &mut Sink) -> Result<()>`. A second
/// parameter, `config: &Config`, is the pipeline's configuration.
#[proc_macro_attribute]
pub fn sink(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_run("Sink", &arguments.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes the crate's plugin out of a function that produces: `#[source] fn name(source: &mut Source) -> Result<()>`. A
/// second parameter, `config: &Config`, is the pipeline's configuration.
#[proc_macro_attribute]
pub fn source(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand_run("Source", &arguments.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

/// `handle` is the type that the host lends to the function.
fn expand_run(handle: &str, arguments: &Tokens, item: Tokens) -> Result<Tokens, Error> {
    let (attribute, handle) = (handle.to_lowercase(), Ident::new(handle, Span::call_site()));
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), format!("#[{attribute}] takes no arguments")));
    }
    let whole = item.span();
    let Item::Fn(function) = syn::parse2(item)? else {
        return Err(Error::new(whole, format!("#[{attribute}] goes on a function")));
    };
    let signature = &function.sig;
    if let Some(asyncness) = signature.asyncness {
        return Err(Error::new(
            asyncness.span(),
            format!("a {attribute} is not async: its calls wait by themselves"),
        ));
    }
    let name = &signature.ident;
    let inputs: Vec<_> = signature.inputs.iter().collect();
    let (config, argument) = match inputs[..] {
        [_] => (quote!(::millstream_sdk::NoConfig), None),
        [_, config] => (config_type(config)?, Some(quote!(, config))),
        _ => {
            let expected =
                format!("expected `({attribute}: &mut {handle})`, with `config: &Config` if it has any");
            return Err(Error::new(signature.inputs.span(), expected));
        }
    };
    let unused = if argument.is_some() { quote!(config) } else { quote!(_) };
    Ok(quote! {
        #function

        ::millstream_sdk::__export_run!(#config, |#unused: &#config| {
            #name(&mut ::millstream_sdk::#handle::__new() #argument)
        });
    })
}

fn expand(arguments: &Tokens, item: Tokens) -> Result<Tokens, Error> {
    let export = export_macro(arguments)?;
    let whole = item.span();
    match syn::parse2(item)? {
        Item::Fn(function) => of_function(&function, &export),
        Item::Impl(block) => of_impl(&block, &export),
        _ => Err(Error::new(whole, "#[transform] goes on a function or on an `impl Transform for …`")),
    }
}

fn export_macro(arguments: &Tokens) -> Result<Ident, Error> {
    if arguments.is_empty() {
        return Ok(Ident::new("__export_batch", Span::call_site()));
    }
    match syn::parse2::<Ident>(arguments.clone()) {
        Ok(form) if form == "typed" => Ok(Ident::new("__export_typed", Span::call_site())),
        _ => Err(Error::new(arguments.span(), "the one argument that #[transform] takes is `typed`")),
    }
}

fn of_impl(block: &ItemImpl, export: &Ident) -> Result<Tokens, Error> {
    let is_transform = block
        .trait_
        .as_ref()
        .and_then(|(_, path, _)| path.segments.last())
        .is_some_and(|name| name.ident == "Transform");
    if !is_transform {
        return Err(Error::new(block.self_ty.span(), "this should be `impl Transform for …`"));
    }
    match block.self_ty.as_ref() {
        Type::Path(path) if path.path.get_ident().is_some() => {
            let name = path.path.get_ident();
            Ok(quote! {
                #block
                ::millstream_sdk::#export!(#name);
            })
        }
        other => {
            Err(Error::new(other.span(), "a plugin is made of one type without parameters: name it plainly"))
        }
    }
}

fn of_function(function: &ItemFn, export: &Ident) -> Result<Tokens, Error> {
    let signature = &function.sig;
    if let Some(asyncness) = signature.asyncness {
        return Err(Error::new(asyncness.span(), "a transform is not async: it has nothing to wait for"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(signature.generics.span(), "a transform has no parameters of its own"));
    }
    let name = &signature.ident;
    let visibility = &function.vis;
    let inputs: Vec<_> = signature.inputs.iter().collect();
    let (config, argument) = match inputs[..] {
        [_, _] => (quote!(::millstream_sdk::NoConfig), None),
        [_, _, config] => (config_type(config)?, Some(quote!(, &self.config))),
        _ => {
            let expected =
                "expected `(record: Record, out: &mut Output)`, with `config: &Config` if it has any";
            return Err(Error::new(signature.inputs.span(), expected));
        }
    };
    Ok(quote! {
        #function

        // A struct with braces shares no namespace with the function.
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, reason = "named after the function; used where it is exported")]
        #visibility struct #name { config: #config }

        impl ::millstream_sdk::Transform for #name {
            type Config = #config;

            fn new(config: #config) -> ::millstream_sdk::Result<Self> {
                ::core::result::Result::Ok(Self { config })
            }

            fn record(
                &mut self,
                record: ::millstream_sdk::Record<'_>,
                out: &mut ::millstream_sdk::Output<'_>,
            ) -> ::millstream_sdk::Result<()> {
                #name(record, out #argument)
            }
        }

        ::millstream_sdk::#export!(#name);
    })
}

fn config_type(argument: &FnArg) -> Result<Tokens, Error> {
    match argument {
        FnArg::Typed(argument) => match argument.ty.as_ref() {
            Type::Reference(reference) if reference.mutability.is_none() => {
                let config = &reference.elem;
                Ok(quote!(#config))
            }
            other => Err(Error::new(other.span(), "the configuration is taken as `&Config`")),
        },
        FnArg::Receiver(receiver) => Err(Error::new(receiver.span(), "a transform function has no `self`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &Tokens, item: Tokens, expect: &str) {
        match expand(arguments, item) {
            Ok(tokens) => assert!(tokens.to_string().contains(expect), "{tokens}"),
            Err(error) => assert_eq!(error.to_string(), expect),
        }
    }

    #[test]
    fn exports_the_form_that_is_asked_for() {
        let item = quote!(impl Transform for Mask {});
        check(&quote!(), item.clone(), ":: millstream_sdk :: __export_batch ! (Mask)");
        check(&quote!(typed), item, ":: millstream_sdk :: __export_typed ! (Mask)");
        let item = quote!(
            fn mask(record: Record, out: &mut Output, config: &Rules) -> Result<()> {
                Ok(())
            }
        );
        check(&quote!(), item, "type Config = Rules");
    }

    #[test]
    fn functions_that_run_are_exported() {
        let item = quote!(
            fn archive(sink: &mut Sink, config: &Target) -> Result<()> {
                Ok(())
            }
        );
        let expanded = expand_run("Sink", &quote!(), item).unwrap().to_string();
        assert!(expanded.contains("__export_run ! (Target"), "{expanded}");
        let refused = |item: Tokens| expand_run("Source", &quote!(), item).unwrap_err().to_string();
        assert_eq!(
            refused(quote!(
                struct X;
            )),
            "#[source] goes on a function"
        );
        assert_eq!(
            refused(quote!(
                fn x() {}
            )),
            "expected `(source: &mut Source)`, with `config: &Config` if it has any"
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let nothing = quote!();
        check(
            &quote!(fast),
            quote!(impl Transform for Mask {}),
            "the one argument that #[transform] takes is `typed`",
        );
        check(
            &nothing,
            quote!(
                struct Mask;
            ),
            "#[transform] goes on a function or on an `impl Transform for …`",
        );
        check(&nothing, quote!(impl Mask {}), "this should be `impl Transform for …`");
        check(
            &nothing,
            quote!(impl Transform for Mask<u8> {}),
            "a plugin is made of one type without parameters: name it plainly",
        );
        check(
            &nothing,
            quote!(
                async fn mask(record: Record, out: &mut Output) {}
            ),
            "a transform is not async: it has nothing to wait for",
        );
        check(
            &nothing,
            quote!(
                fn mask(record: Record) {}
            ),
            "expected `(record: Record, out: &mut Output)`, with `config: &Config` if it has any",
        );
        check(
            &nothing,
            quote!(
                fn mask(record: Record, out: &mut Output, config: Rules) {}
            ),
            "the configuration is taken as `&Config`",
        );
    }
}
