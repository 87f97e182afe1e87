//! What every generated message can do, and how requests belong to responses.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, EncodeError, FrameWriter, Reader};

/// A message of Kafka's protocol, borrowing its strings and bytes from the frame for `'a`.
pub trait Message<'a>: Sized + Clone + Debug + Default + PartialEq {
    /// Kafka's name, such as `FetchRequest`.
    const NAME: &'static str;

    /// The lowest and the highest version that can be read and written.
    const VERSION_MIN: i16;
    const VERSION_MAX: i16;

    /// Reads the message and leaves the reader behind it. A field that the version lacks gets its
    /// default.
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message. Fails on a field that the version lacks, unless its value is the
    /// default or Kafka declares that it may be dropped.
    fn encode(&self, writer: &mut FrameWriter, version: i16) -> Result<(), EncodeError>;

    /// [`Self::VERSION_MIN`] to [`Self::VERSION_MAX`].
    fn versions() -> RangeInclusive<i16> {
        Self::VERSION_MIN..=Self::VERSION_MAX
    }
}

/// One API: the marker types in [`crate::api`] pair each request with its response.
pub trait Api: Copy + Debug + Default + Send + Sync + 'static {
    const KEY: ApiKey;

    type Request<'a>: Request<'a> + Into<crate::AnyRequest<'a>>;
    type Response<'a>: Response<'a> + Into<crate::AnyResponse<'a>>;
}

/// A request knows its API.
pub trait Request<'a>: Message<'a> {
    const API_KEY: ApiKey;

    type Api: Api;
}

/// A response knows its API.
pub trait Response<'a>: Message<'a> {
    const API_KEY: ApiKey;

    type Api: Api;
}

/// The key of a record in a coordinator's topic; it starts with its type where a value starts
/// with its version.
pub trait CoordinatorKey<'a>: Message<'a> {
    const RECORD_TYPE: i16;
}
