//! Messages that a plugin sends, decoded and checked.

use millstream_record::RecordBody;
use millstream_record::varint::{take_varint, take_varlong};

use crate::outputs::check_timestamp;

/// Flags of a packed message; those of a transform's outputs.
const BODY: u8 = 0x01;
const TOPIC: u8 = 0x02;
const PARTITION: u8 = 0x04;
const TIMESTAMP: u8 = 0x08;

/// Messages of one call: each takes the host more memory than the few bytes that it may have.
pub(super) const MESSAGES_MAX: usize = 100_000;

/// A message to be written.
pub(crate) struct Outgoing<'a> {
    /// None: the first of the `to:`.
    pub(crate) topic: Option<&'a str>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp: Option<i64>,
    /// Key, value and headers as in a Kafka record.
    pub(crate) body: &'a [u8],
}

impl Outgoing<'_> {
    /// Reads messages that lie end to end. The error names the message by its place.
    pub(crate) fn unpack(mut packed: &[u8]) -> Result<Vec<Outgoing<'_>>, String> {
        let mut messages = Vec::new();
        while !packed.is_empty() {
            if messages.len() >= MESSAGES_MAX {
                return Err(format!("{MESSAGES_MAX}: a call takes so many messages at most"));
            }
            let message = unpack_one(&mut packed);
            messages.push(message.map_err(|reason| format!("{}: {reason}", messages.len()))?);
        }
        Ok(messages)
    }

    /// What can be told without knowing the topics.
    pub(crate) fn check(&self) -> Result<(), String> {
        RecordBody::parse(self.body).map_err(|fault| format!("malformed key, value or headers: {fault}"))?;
        match self.timestamp.map(check_timestamp) {
            Some(Err(fault)) => Err(fault.to_string()),
            _ => Ok(()),
        }
    }
}

fn unpack_one<'a>(packed: &mut &'a [u8]) -> Result<Outgoing<'a>, String> {
    let cut = |_| "it ends too early".to_owned();
    let (&flags, rest) = packed.split_first().expect("the caller has seen that there is more");
    *packed = rest;
    if flags & !(BODY | TOPIC | PARTITION | TIMESTAMP) != 0 || flags & BODY == 0 {
        return Err(format!(
            "flags {flags:#04x}: BODY is always set, and there is none beside TOPIC, PARTITION, TIMESTAMP"
        ));
    }
    let topic = match flags & TOPIC {
        0 => None,
        _ => Some(std::str::from_utf8(take_bytes(packed)?).map_err(|_| "its topic is not UTF-8".to_owned())?),
    };
    let partition = match flags & PARTITION {
        0 => None,
        _ => {
            let partition = take_varint(packed).map_err(cut)?;
            Some(u32::try_from(partition).map_err(|_| format!("partition {partition} is negative"))?)
        }
    };
    let timestamp = match flags & TIMESTAMP {
        0 => None,
        _ => Some(take_varlong(packed).map_err(|_| "it ends too early".to_owned())?),
    };
    Ok(Outgoing { topic, partition, timestamp, body: take_bytes(packed)? })
}

fn take_bytes<'a>(packed: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = take_varint(packed).map_err(|_| "it ends too early".to_owned())?;
    let length = usize::try_from(length).map_err(|_| format!("a length of {length}"))?;
    let (bytes, rest) = packed.split_at_checked(length).ok_or_else(|| "it ends too early".to_owned())?;
    *packed = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_messages_are_read_and_mistakes_named() {
        // Key null, value "hi", no headers.
        let body = [0x01, 0x04, b'h', b'i', 0x00];
        let plain = [&[0x01, 0x0a][..], &body].concat();
        let full = [&[0x0f, 0x06, b'f', b'o', b'o', 0x04, 0x0e, 0x0a][..], &body].concat();
        let both = [plain.clone(), full].concat();
        let messages = Outgoing::unpack(&both).unwrap();
        let read: Vec<_> = messages.iter().map(|m| (m.topic, m.partition, m.timestamp, m.body)).collect();
        assert_eq!(read, [(None, None, None, &body[..]), (Some("foo"), Some(2), Some(7), &body[..])]);
        assert!(messages.iter().all(|message| message.check().is_ok()));
        let refused = |bytes: &[u8]| match Outgoing::unpack(bytes) {
            Err(reason) => reason,
            Ok(messages) => messages.iter().find_map(|message| message.check().err()).unwrap(),
        };
        assert!(refused(&[0x02]).starts_with("0: flags 0x02"));
        assert!(refused(&[0x11]).starts_with("0: flags 0x11"));
        assert_eq!(refused(&[plain.as_slice(), &[0x01, 0x0a, 1]].concat()), "1: it ends too early");
        assert_eq!(refused(&[0x01, 0x01]), "0: a length of -1");
        assert_eq!(refused(&[0x05, 0x01, 0x00]), "0: partition -1 is negative");
        assert!(refused(&[0x01, 0x02, 0x7f]).starts_with("malformed key"));
        assert!(Outgoing::unpack(&[]).unwrap().is_empty());
        assert_eq!(Outgoing::unpack(&plain.repeat(MESSAGES_MAX)).unwrap().len(), MESSAGES_MAX);
        assert!(refused(&plain.repeat(MESSAGES_MAX + 1)).contains("so many messages at most"));
    }
}
