//! A batch as it lies on the wire and on disk: a borrowed view, its checks, and its patches in place.
//!
//! `RecordBatch` is made only from bytes whose length and magic fit, so its getters cannot fail. All else is
//! checked when asked for, because a broker wants to know *which* check failed, and a fetch wants none:
//!
//! 1. `verify_crc`: the bytes are those that the producer sent
//! 2. `validate_header`: the fields make sense together; `validate_client_header`: a client may send them
//! 3. `validate_records`: the uncompressed records section holds what the header says

mod attributes;
mod iter;
mod patch;
mod validate;
mod view;

pub use attributes::{Attributes, TimestampType};
pub use iter::Batches;
pub use patch::RecordBatchMut;
pub use validate::{CrcMismatch, HeaderError, RecordsError};
pub use view::{BatchError, RecordBatch};
