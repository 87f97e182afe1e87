//! The form `transform`.

use std::marker::PhantomData;

use super::{init, with_instance};
use crate::output::{TypedBody, TypedOutput};
use crate::record::{Batch, Message};
use crate::{Error, Position, Transform};

#[expect(missing_docs, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.2",
        world: "transformer",
        pub_export_macro: true,
        export_macro_name: "export_typed_guest",
        default_bindings_module: "millstream_sdk::guest::typed_bindings",
    });
}

use bindings::exports::millstream::plugin::transform as wit;
use bindings::millstream::plugin::types::{Position as WitPosition, RejectedRecord};

/// Makes a component's export out of a transform.
pub struct TypedGuest<T>(PhantomData<T>);

impl<T: Transform> wit::Guest for TypedGuest<T> {
    fn init(config: String) -> Result<(), String> {
        init::<T>(&config)
    }

    fn transform(
        info: wit::BatchInfo,
        messages: Vec<wit::Message>,
    ) -> Result<wit::BatchOutput, wit::BatchError> {
        let batch = Batch {
            position: position(info.position),
            topic: info.topic,
            partition: info.partition,
            base_offset: info.base_offset,
            base_timestamp: info.base_timestamp,
            append_time: info.append_time,
        };
        let messages: Vec<_> = messages.into_iter().map(Message::from).collect();
        match with_instance(|instance| instance.messages(&batch, &messages)) {
            Ok((outputs, rejected)) => {
                let rejected = rejected
                    .into_iter()
                    .map(|rejected| RejectedRecord { index: rejected.index, reason: rejected.reason })
                    .collect();
                Ok(wit::BatchOutput {
                    outputs: outputs.into_iter().map(wit::Output::from).collect(),
                    rejected,
                })
            }
            Err(Error::Retry(reason)) => Err(wit::BatchError::Retry(reason)),
            Err(error) => Err(wit::BatchError::Stop(error.reason().to_owned())),
        }
    }
}

impl From<wit::Message> for Message {
    fn from(message: wit::Message) -> Self {
        Self {
            offset: message.offset,
            timestamp: message.timestamp,
            key: message.key,
            value: message.value,
            headers: message.headers.into_iter().map(|header| (header.key, header.value)).collect(),
        }
    }
}

impl From<TypedOutput> for wit::Output {
    fn from(output: TypedOutput) -> Self {
        Self {
            index: output.index,
            topic: output.topic,
            partition: output.partition,
            timestamp: output.timestamp,
            body: output.body.map(wit::MessageBody::from),
        }
    }
}

impl From<TypedBody> for wit::MessageBody {
    fn from(body: TypedBody) -> Self {
        let headers = body.headers.into_iter().map(|(key, value)| wit::Header { key, value }).collect();
        Self { key: body.key, value: body.value, headers }
    }
}

fn position(position: WitPosition) -> Position {
    match position {
        WitPosition::Stream => Position::Stream,
        WitPosition::Ingest => Position::Ingest,
        WitPosition::View => Position::View,
    }
}

/// What `#[transform(typed)]` expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_typed_component {
    ($transform:ident) => {
        const _: () = {
            type Component = $crate::guest::TypedGuest<$transform>;
            $crate::guest::typed_bindings::export_typed_guest!(
                Component with_types_in $crate::guest::typed_bindings
            );
        };
    };
}

pub use __export_typed_component as export_typed;
