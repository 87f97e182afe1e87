//! Zigzag varints, the numbers inside a record.
//!
//! A padded encoding (`0x80 0x00` for 0) is accepted, because Kafka and its clients accept it; one that is
//! longer than the type needs at most, or that carries bits the type cannot hold, is not.

use alloc::vec::Vec;

use thiserror::Error;

/// The most bytes that an `i32` takes.
pub const VARINT_BYTES_MAX: usize = 5;
/// The most bytes that an `i64` takes.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why there is no number at the start of the input.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VarintError {
    /// The input ends inside the number.
    #[error("varint is cut short")]
    Truncated,
    /// The number does not fit its type.
    #[error("varint is longer than its type")]
    TooLong,
}

/// Takes an `i32` off the front of `input`. On error `input` stays where it was.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Result<i32, VarintError> {
    if let Some(value) = take_short(input) {
        return Ok(unzigzag(value));
    }
    // The fifth byte has room for four bits of the 32.
    let value = take_unsigned::<VARINT_BYTES_MAX>(input, 0x0f)?;
    #[expect(clippy::cast_possible_truncation, reason = "the fifth byte's limit leaves 32 bits")]
    Ok(unzigzag(value as u32))
}

/// Takes an `i64` off the front of `input`. On error `input` stays where it was.
#[inline]
pub fn take_varlong(input: &mut &[u8]) -> Result<i64, VarintError> {
    if let Some(value) = take_short(input) {
        return Ok(i64::from(unzigzag(value)));
    }
    // The tenth byte has room for one bit of the 64.
    let value = take_unsigned::<VARLONG_BYTES_MAX>(input, 0x01)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// Appends `value` in its shortest encoding.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(zigzag(value)));
}

/// Appends `value` in its shortest encoding.
#[inline]
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, zigzag_long(value));
}

/// How many bytes `put_varint` appends.
#[inline]
pub fn varint_bytes(value: i32) -> usize {
    unsigned_bytes(u64::from(zigzag(value)))
}

/// How many bytes `put_varlong` appends.
#[inline]
pub fn varlong_bytes(value: i64) -> usize {
    unsigned_bytes(zigzag_long(value))
}

/// One byte or two, which is what nearly all numbers of a record take.
#[inline]
fn take_short(input: &mut &[u8]) -> Option<u32> {
    match **input {
        [first @ 0..=0x7f, ref rest @ ..] => {
            *input = rest;
            Some(u32::from(first))
        }
        [first, second @ 0..=0x7f, ref rest @ ..] => {
            *input = rest;
            Some(u32::from(first & 0x7f) | u32::from(second) << 7)
        }
        _ => None,
    }
}

#[inline(never)]
fn take_unsigned<const BYTES_MAX: usize>(input: &mut &[u8], last_byte_max: u8) -> Result<u64, VarintError> {
    let mut value = 0;
    for (at, &byte) in input.iter().take(BYTES_MAX).enumerate() {
        if at + 1 == BYTES_MAX && byte > last_byte_max {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *input = &input[at + 1..];
            return Ok(value);
        }
    }
    Err(VarintError::Truncated)
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn unsigned_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_varint(value: i32, encoded: &[u8]) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out, encoded, "{value}");
        assert_eq!(varint_bytes(value), encoded.len(), "{value}");
        let mut input = encoded;
        assert_eq!(take_varint(&mut input), Ok(value));
        assert!(input.is_empty());
    }

    fn check_varlong(value: i64, encoded: &[u8]) {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        assert_eq!(out, encoded, "{value}");
        assert_eq!(varlong_bytes(value), encoded.len(), "{value}");
        let mut input = encoded;
        assert_eq!(take_varlong(&mut input), Ok(value));
        assert!(input.is_empty());
    }

    #[test]
    fn varints_have_kafkas_encoding() {
        check_varint(0, &[0x00]);
        check_varint(-1, &[0x01]);
        check_varint(1, &[0x02]);
        check_varint(63, &[0x7e]);
        check_varint(-64, &[0x7f]);
        check_varint(64, &[0x80, 0x01]);
        check_varint(8192, &[0x80, 0x80, 0x01]);
        check_varint(i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check_varint(i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn varlongs_have_kafkas_encoding() {
        check_varlong(0, &[0x00]);
        check_varlong(-65, &[0x81, 0x01]);
        check_varlong(i64::from(i32::MAX) + 1, &[0x80, 0x80, 0x80, 0x80, 0x10]);
        check_varlong(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check_varlong(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn a_padded_varint_is_accepted_and_an_overlong_one_is_not() {
        let check = |input: &[u8], expect| {
            let mut rest = input;
            assert_eq!(take_varint(&mut rest), expect, "{input:02x?}");
            assert_eq!(rest.len(), if expect.is_ok() { 0 } else { input.len() });
        };
        check(&[0x80, 0x00], Ok(0));
        check(&[0x82, 0x80, 0x80, 0x80, 0x00], Ok(1));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(VarintError::TooLong));
        check(&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(VarintError::TooLong));
        check(&[0xff, 0xff, 0xff, 0xff], Err(VarintError::Truncated));
        check(&[], Err(VarintError::Truncated));
        let mut long: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03];
        assert_eq!(take_varlong(&mut long), Err(VarintError::TooLong));
    }
}
