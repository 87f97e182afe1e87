//! `wasi:http/types` for sources and sinks: what WASI does, but what an instance's requests, responses, headers and bodies
//! hold in the host has a limit. Headers, paths and schemes have theirs already; methods and authorities do not.

use wasmtime::component::{Linker, Resource};
use wasmtime::{Result, StoreContextMut, bail};
use wasmtime_wasi_http::p2::bindings::http::types::{
    HeaderError, Host as _, HostFields, HostOutgoingRequest as _, Method,
};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use super::RunnerState;

/// What is shadowed: has to be the version that `wasmtime-wasi-http` links.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Requests, responses, headers and bodies that an instance may have in its hands. The largest is a request: headers and
/// path of 64 KiB each, an authority, and two chunks of a body, 164 KiB. All of them together stay below 48 MiB.
const RESOURCES_MAX: usize = 256;
/// Those of WebDAV are half as long.
const METHOD_BYTES_MAX: usize = 32;
/// A name has 253 bytes at most.
const AUTHORITY_BYTES_MAX: usize = 512;

type Context<'a> = StoreContextMut<'a, RunnerState>;

/// In the place of what has no limit.
pub(super) fn link(linker: &mut Linker<RunnerState>) -> Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[constructor]fields", |mut context: Context<'_>, (): ()| {
        context.data_mut().ensure_room()?;
        Ok((HostFields::new(&mut context.data_mut().http())?,))
    })?;
    types.func_wrap("[static]fields.from-list", from_list)?;
    types.func_wrap(
        "[method]fields.clone",
        |mut context: Context<'_>, (fields,): (Resource<FieldMap>,)| {
            context.data_mut().ensure_room()?;
            Ok((HostFields::clone(&mut context.data_mut().http(), fields)?,))
        },
    )?;
    types.func_wrap("[method]outgoing-request.set-method", set_method)?;
    types.func_wrap("[method]outgoing-request.set-authority", set_authority)?;
    linker.allow_shadowing(false);
    Ok(())
}

type FromList = std::result::Result<Resource<FieldMap>, HeaderError>;

fn from_list(mut context: Context<'_>, (entries,): (Vec<(String, Vec<u8>)>,)) -> Result<(FromList,)> {
    context.data_mut().ensure_room()?;
    let mut http = context.data_mut().http();
    Ok((match http.from_list(entries) {
        Ok(fields) => Ok(fields),
        Err(error) => Err(http.convert_header_error(error)?),
    },))
}

type Set = std::result::Result<(), ()>;

fn set_method(
    mut context: Context<'_>,
    (request, method): (Resource<HostOutgoingRequest>, Method),
) -> Result<(Set,)> {
    if matches!(&method, Method::Other(name) if name.len() > METHOD_BYTES_MAX) {
        return Ok((Err(()),));
    }
    Ok((context.data_mut().http().set_method(request, method)?,))
}

fn set_authority(
    mut context: Context<'_>,
    (request, authority): (Resource<HostOutgoingRequest>, Option<String>),
) -> Result<(Set,)> {
    if authority.as_ref().is_some_and(|authority| authority.len() > AUTHORITY_BYTES_MAX) {
        return Ok((Err(()),));
    }
    Ok((context.data_mut().http().set_authority(request, authority)?,))
}

impl RunnerState {
    /// Everything that holds much begins with headers of its own: a request is made of them, and a response is one's to a
    /// request.
    fn ensure_room(&mut self) -> Result<()> {
        let held = self.host.table().iter_mut().filter(|resource| {
            resource.is::<FieldMap>()
                || resource.is::<HostOutgoingRequest>()
                || resource.is::<HostOutgoingBody>()
                || resource.is::<HostFutureIncomingResponse>()
                || resource.is::<HostIncomingResponse>()
                || resource.is::<HostIncomingBody>()
                || resource.is::<HostFutureTrailers>()
        });
        if held.count() >= RESOURCES_MAX {
            bail!(
                "the plugin holds {RESOURCES_MAX} requests, responses, headers and bodies of HTTP: drop those that are done with"
            );
        }
        Ok(())
    }
}
