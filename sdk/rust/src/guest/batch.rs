//! The form `transform-batch`.

use std::marker::PhantomData;

use super::{init, with_instance};
use crate::record::Batch;
use crate::{Error, Position, Transform};

#[expect(missing_docs, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/0.2",
        world: "batch-transformer",
        pub_export_macro: true,
        export_macro_name: "export_batch_guest",
        default_bindings_module: "millstream_sdk::guest::batch_bindings",
    });
}

use bindings::exports::millstream::plugin::transform_batch::{BatchError, BatchInfo, BatchOutput, Guest};
use bindings::millstream::plugin::types::{Position as WitPosition, RejectedRecord};

/// Makes a component's export out of a transform.
pub struct BatchGuest<T>(PhantomData<T>);

impl<T: Transform> Guest for BatchGuest<T> {
    fn init(config: String) -> Result<(), String> {
        init::<T>(&config)
    }

    fn transform(info: BatchInfo, records: Vec<u8>) -> Result<BatchOutput, BatchError> {
        let batch = Batch {
            position: position(info.position),
            topic: info.topic,
            partition: info.partition,
            base_offset: info.base_offset,
            base_timestamp: info.base_timestamp,
            append_time: info.append_time,
        };
        match with_instance(|instance| instance.batch(&batch, &records)) {
            Ok((outputs, rejected)) => {
                let rejected = rejected
                    .into_iter()
                    .map(|rejected| RejectedRecord { index: rejected.index, reason: rejected.reason })
                    .collect();
                Ok(BatchOutput { outputs, rejected })
            }
            Err(Error::Retry(reason)) => Err(BatchError::Retry(reason)),
            Err(error) => Err(BatchError::Stop(error.reason().to_owned())),
        }
    }
}

fn position(position: WitPosition) -> Position {
    match position {
        WitPosition::Stream => Position::Stream,
        WitPosition::Ingest => Position::Ingest,
        WitPosition::View => Position::View,
    }
}

/// What `#[transform]` expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_batch_component {
    ($transform:ident) => {
        const _: () = {
            type Component = $crate::guest::BatchGuest<$transform>;
            $crate::guest::batch_bindings::export_batch_guest!(
                Component with_types_in $crate::guest::batch_bindings
            );
        };
    };
}

pub use __export_batch_component as export_batch;
