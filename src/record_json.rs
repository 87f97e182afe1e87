//! Records as JSON. Bytes that are not UTF-8 go into the `_base64` twin of their field.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct RecordHeader<'a> {
    pub(crate) key: &'a str,
    #[serde(flatten, serialize_with = "value")]
    pub(crate) value: Option<&'a [u8]>,
}

pub(crate) fn key<S: serde::Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    field(["key", "key_base64"], *bytes, serializer)
}

pub(crate) fn value<S: serde::Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    field(["value", "value_base64"], *bytes, serializer)
}

fn field<S: serde::Serializer>(
    [name, base64_name]: [&str; 2],
    bytes: Option<&[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => BTreeMap::from([(name, None::<&str>)]).serialize(serializer),
        Some((_, Ok(text))) => BTreeMap::from([(name, text)]).serialize(serializer),
        Some((bytes, Err(_))) => BTreeMap::from([(base64_name, base64(bytes))]).serialize(serializer),
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for sextet in 0..4 {
            if sextet <= group.len() {
                let index = (bits >> (18 - 6 * sextet)) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_each_remainder() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
