//! Kafka's protocol messages, generated from its field tables.
//!
//! `messages/*.json` say which fields each version of a message has; the build script writes a
//! module for each with its structs, `Default`, and reading and writing of every version. Dropping
//! its two tables in adds an API (`messages/reduce.py` makes them, `tests/golden/Golden.java` the
//! bytes to compare with). What is written by hand is the ground under it: [`Reader`] borrows from
//! a received frame and bounds what a frame can make us allocate, [`FrameWriter`] collects a
//! [`Frame`] without copying [`Records`].
//!
//! **Invariants**: no input panics; what a decoded message takes in memory is bounded by the
//! length of its frame; strings and bytes are borrowed, so decoding allocates for arrays only.
//!
//! Kafka's laxness is kept where clients may depend on it: bytes behind a message are ignored,
//! unknown tagged fields are skipped, any non-zero byte is `true`. Negative lengths other than
//! null's, and tagged fields whose size is a lie, are errors here.

mod api_key;
mod codec;
mod decode_error;
mod encode_error;
mod error_code;
mod frame;
mod message;
mod reader;
mod records;
mod writer;

pub use codec::{
    coordinator_record_type, decode_coordinator_key, decode_request_header, decode_response_header,
    decode_versioned, decode_versioned_forward, encode_coordinator_key, encode_request, encode_response,
    encode_versioned,
};
pub use decode_error::DecodeError;
pub use encode_error::EncodeError;
pub use error_code::ErrorCode;
pub use frame::Frame;
pub use generated::*;
pub use message::{Api, CoordinatorKey, Message, Request, Response};
pub use reader::{DECODED_BYTES_MIN, DECODED_BYTES_PER_FRAME_BYTE, Reader};
pub use records::Records;
pub use writer::{FrameWriter, SPLICE_BYTES_MIN, TaggedMark};

#[allow(
    unused_variables,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated: what makes the translation of a table uniform reads badly as a text"
)]
#[macro_use]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

#[cfg(test)]
mod tests;
