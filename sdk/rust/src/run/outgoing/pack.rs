//! Messages as `producer.send-packed` takes them.

use millstream_record::varint::{put_varint, put_varlong};

use super::Outgoing;

const BODY: u8 = 0x01;
const TOPIC: u8 = 0x02;
const PARTITION: u8 = 0x04;
const TIMESTAMP: u8 = 0x08;

impl Outgoing {
    /// As `producer.send-packed` takes it.
    pub(crate) fn pack(&self, packed: &mut Vec<u8>) {
        let Self { topic, partition, timestamp, key, value, headers } = self;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let flags = BODY
            | flag(topic.is_some(), TOPIC)
            | flag(partition.is_some(), PARTITION)
            | flag(timestamp.is_some(), TIMESTAMP);
        packed.push(flags);
        if let Some(topic) = topic {
            put_bytes(packed, Some(topic.as_bytes()));
        }
        if let Some(partition) = partition {
            // One that is out of range is none that a topic has.
            put_varint(packed, i32::try_from(*partition).unwrap_or(i32::MAX));
        }
        if let Some(timestamp) = timestamp {
            put_varlong(packed, *timestamp);
        }
        let mut body = Vec::new();
        put_bytes(&mut body, key.as_deref());
        put_bytes(&mut body, value.as_deref());
        put_varint(&mut body, length(headers.len()));
        for (key, value) in headers {
            put_bytes(&mut body, Some(key.as_bytes()));
            put_bytes(&mut body, value.as_deref());
        }
        put_bytes(packed, Some(&body));
    }
}

fn put_bytes(packed: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(packed, -1),
        Some(bytes) => {
            put_varint(packed, length(bytes.len()));
            packed.extend_from_slice(bytes);
        }
    }
}

fn length(length: usize) -> i32 {
    i32::try_from(length).expect("a plugin has less than 2 GiB of memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_as_the_contract_says() {
        let mut packed = Vec::new();
        Outgoing::new("hi").pack(&mut packed);
        Outgoing::new("hi").to("foo").partition(2).timestamp(7).pack(&mut packed);
        let body = [0x0a, 0x01, 0x04, b'h', b'i', 0x00];
        let expect = [&[0x01][..], &body, &[0x0f, 0x06, b'f', b'o', b'o', 0x04, 0x0e], &body].concat();
        assert_eq!(packed, expect);
    }
}
