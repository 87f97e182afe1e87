//! The component's side of the contract: bindings, the one instance of the module, and the two forms.

mod batch;
mod http;
pub mod run;
mod typed;

pub use batch::{BatchGuest, bindings as batch_bindings, export_batch};
pub use typed::{TypedGuest, bindings as typed_bindings, export_typed};

use std::cell::RefCell;

use batch::bindings::millstream::plugin::log as host_log;

use crate::instance::{Instance, instantiate};
use crate::log::Level;
use crate::{Error, Result, Transform};

thread_local! {
    /// The transform, from `init` on. The host calls one function at a time, and none from within another.
    static INSTANCE: RefCell<Option<Box<dyn Instance>>> = const { RefCell::new(None) };
}

fn init<T: Transform>(config: &str) -> Result<(), String> {
    let instance = instantiate::<T>(config).map_err(|error| error.reason().to_owned())?;
    INSTANCE.set(Some(instance));
    Ok(())
}

fn with_instance<R>(call: impl FnOnce(&mut dyn Instance) -> Result<R>) -> Result<R> {
    INSTANCE.with_borrow_mut(|instance| match instance {
        Some(instance) => call(instance.as_mut()),
        None => Err(Error::stop("transform was called before init")),
    })
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => host_log::Level::Trace,
        Level::Debug => host_log::Level::Debug,
        Level::Info => host_log::Level::Info,
        Level::Warn => host_log::Level::Warn,
        Level::Error => host_log::Level::Error,
    };
    host_log::log(level, message);
}
