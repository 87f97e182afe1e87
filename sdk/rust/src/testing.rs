//! Runs a transform under plain `cargo test`, through the same encoding as in the broker.
//!
//! ```
//! use millstream_sdk::prelude::*;
//! use millstream_sdk::testing::{Harness, Input};
//!
//! #[transform]
//! fn shout(record: Record, out: &mut Output) -> Result<()> {
//!     out.record(&record).value(record.text()?.to_uppercase()).emit()
//! }
//!
//! let mut harness = Harness::<shout>::new("null").unwrap();
//! let outcome = harness.run([Input::value("hello").key("greeting")]).unwrap();
//! assert_eq!(outcome.outputs[0].text(), "HELLO");
//! assert_eq!(outcome.outputs[0].key.as_deref(), Some(&b"greeting"[..]));
//! ```

mod decode;
mod input;
mod outcome;
mod runs;

pub use input::Input;
pub use outcome::{Emitted, Outcome, Rejection};
pub use runs::{RunDone, RunTest};

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;

use crate::instance::{Instance, Rejected, instantiate};
use crate::log::Level;
use crate::record::Batch;
use crate::run::memory;
use crate::{Result, Transform};

/// So many lines are kept between two runs; further ones are dropped, as the host does beyond its limit.
const LOG_LINES_MAX: usize = 10_000;

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// An instance of a transform, and the topic that it reads.
pub struct Harness<T> {
    instance: Box<dyn Instance>,
    batch: Batch,
    form: Form,
    host: memory::Host,
    transform: PhantomData<T>,
}

enum Form {
    Packed,
    Typed,
}

impl<T: Transform> Harness<T> {
    /// An instance with that configuration, as JSON; `null` is what a pipeline without `config:` gives.
    pub fn new(config: &str) -> Result<Self> {
        Self::of_form(Form::Packed, config)
    }

    /// The same, called in the plain form, as `#[transform(typed)]` exports it. There should be no difference.
    pub fn typed(config: &str) -> Result<Self> {
        Self::of_form(Form::Typed, config)
    }

    /// With granted secrets, by their names.
    pub fn with_secrets<'a>(
        config: &str,
        secrets: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let secrets = secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret.into())).collect();
        Self::on_host(memory::Host { secrets, ..memory::Host::default() }, Form::Packed, config)
    }

    fn of_form(form: Form, config: &str) -> Result<Self> {
        Self::on_host(memory::Host::default(), form, config)
    }

    fn on_host(host: memory::Host, form: Form, config: &str) -> Result<Self> {
        let (instance, host) = memory::with(host, || instantiate::<T>(config));
        let batch = Batch { topic: "input".to_owned(), ..Batch::default() };
        Ok(Self { instance: instance?, batch, form, host, transform: PhantomData })
    }

    /// What it has counted so far, under that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.host.counters.get(name).copied().unwrap_or_default()
    }

    /// Hands over one batch. An error is one that concerns the whole batch: retry or stop.
    pub fn run<I: Into<Input>>(&mut self, records: impl IntoIterator<Item = I>) -> Result<Outcome> {
        let inputs: Vec<Input> = records.into_iter().map(Into::into).collect();
        LOG.with_borrow_mut(Vec::clear);
        let host = mem::take(&mut self.host);
        let (made, host) = memory::with(host, || self.made(&inputs));
        self.host = host;
        let (outputs, rejected) = made?;
        self.batch.base_offset += i64::try_from(inputs.len()).unwrap_or(i64::MAX);
        let rejected = rejected
            .into_iter()
            .map(|rejected| Rejection { input: rejected.index as usize, reason: rejected.reason })
            .collect();
        Ok(Outcome { outputs, rejected, log: LOG.take() })
    }

    fn made(&mut self, inputs: &[Input]) -> Result<(Vec<Emitted>, Vec<Rejected>)> {
        Ok(match self.form {
            Form::Packed => {
                self.batch.base_timestamp = inputs.first().map_or(0, Input::timestamp_ms);
                let section = input::section(inputs, self.batch.base_timestamp);
                let (packed, rejected) = self.instance.batch(&self.batch, &section)?;
                (decode::packed(&packed, inputs), rejected)
            }
            Form::Typed => {
                let messages = input::messages(inputs, self.batch.base_offset);
                let (outputs, rejected) = self.instance.messages(&self.batch, &messages)?;
                (decode::typed(outputs, inputs), rejected)
            }
        })
    }
}

pub(crate) fn log(level: Level, message: &str) {
    LOG.with_borrow_mut(|lines| {
        if lines.len() < LOG_LINES_MAX {
            lines.push((level, message.to_owned()));
        }
    });
}
