//! The records of an uncompressed section, read in place.
//!
//! A record is checked to its last byte when it is taken, headers included, so that what hands it on (a host
//! that copies its body into another batch, a guest that walks its headers) has nothing left that can fail.

mod body;
mod headers;
mod iter;
mod parse;

pub use body::RecordBody;
pub use headers::{Header, Headers};
pub use iter::{Record, RecordIter};
pub use parse::{RecordError, RecordFault};
