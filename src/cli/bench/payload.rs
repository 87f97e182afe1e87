//! Values and keys of a bench, without an allocation for each record.

/// Distinct bytes before values repeat, so that a codec finds no whole record again in a batch.
const POOL_BYTES: usize = 4 * 1024 * 1024;
/// Values begin at multiples of this, and so differ in content; a prime, so that they cover the pool.
const STRIDE_BYTES: usize = 4_099;
/// Letters about as often as in text, so that codecs have something to do, and the same ones in each run.
const ALPHABET: &[u8; 32] = b"  eeettaaooiinnsshhrrdlucmfwyp01";

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    /// An object with `at`, room for a stamp; `status`, a number; and `text`.
    Json,
}

/// When a record was due, in nanoseconds of the bench's stopwatch, and of which run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) due_nanos: u64,
    pub(super) mark: u64,
}

const STAMP_BYTES: usize = 16;
/// In front of a stamp in hexadecimal digits, and behind it.
const JSON_HEAD: &[u8] = b"{\"at\":\"";
const JSON_MIDDLE: &[u8] = b"\",\"status\":404,\"text\":\"";
const JSON_TAIL: &[u8] = b"\"}";
const JSON_STAMP_DIGITS: usize = 2 * STAMP_BYTES;
const JSON_BYTES_MIN: usize = JSON_HEAD.len() + JSON_STAMP_DIGITS + JSON_MIDDLE.len() + JSON_TAIL.len();

impl Shape {
    pub(super) fn of(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Text }
    }

    /// The shortest value.
    pub(super) fn bytes_min(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Json => JSON_BYTES_MIN,
        }
    }

    /// The shortest value that has room for a stamp.
    pub(super) fn stamped_bytes_min(self) -> usize {
        match self {
            Self::Text => STAMP_BYTES,
            Self::Json => JSON_BYTES_MIN,
        }
    }

    /// Puts a stamp into a value of this shape.
    pub(super) fn put_stamp(self, value: &mut [u8], stamp: Stamp) {
        match self {
            Self::Text => {
                value[..8].copy_from_slice(&stamp.due_nanos.to_le_bytes());
                value[8..STAMP_BYTES].copy_from_slice(&stamp.mark.to_le_bytes());
            }
            Self::Json => {
                let digits = &mut value[JSON_HEAD.len()..][..JSON_STAMP_DIGITS];
                for (at, digit) in digits.iter_mut().enumerate() {
                    let number = if at < 16 { stamp.due_nanos } else { stamp.mark };
                    *digit = b"0123456789abcdef"[(number >> (60 - at % 16 * 4)) as usize & 0xf];
                }
            }
        }
    }

    /// The stamp of a value; none where it can't have one.
    pub(super) fn stamp_of(self, value: &[u8]) -> Option<Stamp> {
        match self {
            Self::Text => {
                let (due, rest) = value.split_first_chunk::<8>()?;
                let (mark, _) = rest.split_first_chunk::<8>()?;
                Some(Stamp { due_nanos: u64::from_le_bytes(*due), mark: u64::from_le_bytes(*mark) })
            }
            Self::Json => {
                let digits = value.strip_prefix(JSON_HEAD)?.get(..JSON_STAMP_DIGITS)?;
                let number = |digits| u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
                Some(Stamp { due_nanos: number(&digits[..16])?, mark: number(&digits[16..])? })
            }
        }
    }
}

/// Values of one size and shape.
pub(super) struct Payload {
    shape: Shape,
    pool: Vec<u8>,
    size: usize,
}

impl Payload {
    /// Objects have at least [`JSON_BYTES_MIN`] bytes.
    pub(super) fn new(size: usize, shape: Shape) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut text = std::iter::repeat_with(|| {
            // xorshift64: quick, and no secret.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state >> 32) as usize % ALPHABET.len()]
        });
        let pool = match shape {
            Shape::Text => text.take(POOL_BYTES + size).collect(),
            Shape::Json => {
                let mut pool = Vec::with_capacity(POOL_BYTES + size);
                while pool.len() < POOL_BYTES {
                    pool.extend_from_slice(JSON_HEAD);
                    pool.extend_from_slice(&[b'0'; JSON_STAMP_DIGITS]);
                    pool.extend_from_slice(JSON_MIDDLE);
                    pool.extend(text.by_ref().take(size - JSON_BYTES_MIN));
                    pool.extend_from_slice(JSON_TAIL);
                }
                pool
            }
        };
        Self { shape, pool, size }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// The value of record number `sequence`.
    #[expect(clippy::cast_possible_truncation, reason = "taken modulo the pool's size anyway")]
    pub(super) fn value(&self, sequence: u64) -> &[u8] {
        let start = match self.shape {
            Shape::Text => (sequence as usize).wrapping_mul(STRIDE_BYTES) % POOL_BYTES,
            Shape::Json => sequence as usize % (self.pool.len() / self.size) * self.size,
        };
        &self.pool[start..start + self.size]
    }
}

/// A decimal number in a buffer of its own: a key spreads records over the partitions.
pub(super) struct Key {
    digits: [u8; 20],
    start: usize,
}

impl Key {
    pub(super) fn new(number: u64) -> Self {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = number;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return Self { digits, start };
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_decimal_numbers() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            assert_eq!(Key::new(number).bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn values_have_the_size_and_differ() {
        let payload = Payload::new(100, Shape::Text);
        let values: HashSet<&[u8]> = (0..10_000).map(|sequence| payload.value(sequence)).collect();
        assert_eq!(values.len(), 10_000);
        assert!(values.iter().all(|value| value.len() == 100));
        assert_eq!(payload.value(u64::MAX).len(), 100);
        assert!(Payload::new(0, Shape::Text).value(1).is_empty());
    }
    #[test]
    fn objects_are_json_with_room_for_a_stamp() {
        for size in [JSON_BYTES_MIN, 100, 1024] {
            let payload = Payload::new(size, Shape::Json);
            let mut value = payload.value(u64::MAX).to_vec();
            assert_eq!(value.len(), size);
            let stamp = Stamp { due_nanos: 0x0123_4567_89ab_cdef, mark: u64::MAX - 1 };
            Shape::Json.put_stamp(&mut value, stamp);
            assert_eq!(Shape::Json.stamp_of(&value), Some(stamp));
            let object: serde_json::Value = serde_json::from_slice(&value).unwrap();
            assert_eq!(
                (&object["at"], &object["status"]),
                (&"0123456789abcdeffffffffffffffffe".into(), &404.into())
            );
        }
    }

    #[test]
    fn stamps_come_back_and_other_values_have_none() {
        let mut value = [0_u8; 20];
        let stamp = Stamp { due_nanos: 7, mark: 9 };
        Shape::Text.put_stamp(&mut value, stamp);
        assert_eq!(Shape::Text.stamp_of(&value), Some(stamp));
        assert_eq!(Shape::Text.stamp_of(&value[..15]), None);
        for other in [&b""[..], b"{\"at\":\"00", b"{\"at\":\"zz000000000000000000000000000000\"}"] {
            assert_eq!(Shape::Json.stamp_of(other), None);
        }
    }
}
