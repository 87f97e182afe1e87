//! Outputs of the contract's plain form: one value for each.

use millstream_record::Header;

use super::{Body, Route};

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedOutput {
    pub(crate) index: u32,
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp: Option<i64>,
    /// None: the input record unchanged.
    pub(crate) body: Option<TypedBody>,
}

/// Key, value and headers of an output that differs from its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedBody {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl TypedOutput {
    pub(super) fn unchanged(route: &Route<'_>) -> Self {
        Self {
            index: route.index,
            topic: route.topic.map(str::to_owned),
            partition: route.partition,
            timestamp: route.timestamp,
            body: None,
        }
    }

    pub(super) fn changed<'b>(route: &Route<'_>, body: Body<'b, impl Iterator<Item = Header<'b>>>) -> Self {
        let headers = body
            .headers
            .map(|header| {
                (String::from_utf8_lossy(header.key).into_owned(), header.value.map(<[u8]>::to_vec))
            })
            .collect();
        let body =
            TypedBody { key: body.key.map(<[u8]>::to_vec), value: body.value.map(<[u8]>::to_vec), headers };
        Self { body: Some(body), ..Self::unchanged(route) }
    }
}
