//! Values and keys of a bench, without an allocation for each record.

/// Distinct bytes before values repeat, so that a codec finds no whole record again in a batch.
const POOL_BYTES: usize = 4 * 1024 * 1024;
/// Values begin at multiples of this, and so differ in content; a prime, so that they cover the pool.
const STRIDE_BYTES: usize = 4_099;
/// Letters about as often as in text, so that codecs have something to do, and the same ones in each run.
const ALPHABET: &[u8; 32] = b"  eeettaaooiinnsshhrrdlucmfwyp01";

/// Values of one size, cut from a pool of text.
pub(super) struct Payload {
    pool: Vec<u8>,
    size: usize,
}

impl Payload {
    pub(super) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let pool = std::iter::repeat_with(|| {
            // xorshift64: quick, and no secret.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state >> 32) as usize % ALPHABET.len()]
        });
        Self { pool: pool.take(POOL_BYTES + size).collect(), size }
    }

    /// The value of record number `sequence`.
    #[expect(clippy::cast_possible_truncation, reason = "taken modulo the pool's size anyway")]
    pub(super) fn value(&self, sequence: u64) -> &[u8] {
        let start = (sequence as usize).wrapping_mul(STRIDE_BYTES) % POOL_BYTES;
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

    use super::{Key, Payload};

    #[test]
    fn keys_are_decimal_numbers() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            assert_eq!(Key::new(number).bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn values_have_the_size_and_differ() {
        let payload = Payload::new(100);
        let values: HashSet<&[u8]> = (0..10_000).map(|sequence| payload.value(sequence)).collect();
        assert_eq!(values.len(), 10_000);
        assert!(values.iter().all(|value| value.len() == 100));
        assert_eq!(payload.value(u64::MAX).len(), 100);
        assert!(Payload::new(0).value(1).is_empty());
    }
}
