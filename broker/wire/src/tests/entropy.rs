//! Turns a string of bytes into a message: where the bytes run out, everything is empty, so that
//! proptest shrinks a failing message by shortening its seed.

use std::borrow::Cow;

use bytes::Bytes;
use uuid::Uuid;

use crate::{ErrorCode, Records};

const ARRAY_LEN_MAX: u8 = 3;

pub(super) trait Sample: Sized {
    /// Any value that `version` can carry.
    fn sample(entropy: &mut Entropy<'_>, version: i16) -> Self;
}

pub(super) struct Entropy<'e> {
    seed: &'e [u8],
}

#[allow(dead_code, reason = "every type of the tables has its method, whether or not one uses it now")]
impl<'e> Entropy<'e> {
    pub(super) fn new(seed: &'e [u8]) -> Self {
        Self { seed }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.seed.split_first() else { return 0 };
        self.seed = rest;
        *first
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// A length that is mostly short, sometimes beyond one byte of varint, and that the rest of
    /// the seed can pay for.
    fn length(&mut self) -> usize {
        let length = self.byte();
        let length = if length == u8::MAX { 300 } else { usize::from(length % 8) };
        if self.seed.is_empty() { 0 } else { length }
    }

    pub(super) fn coin(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    pub(super) fn bool(&mut self) -> bool {
        self.coin()
    }

    pub(super) fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.fixed())
    }

    pub(super) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.fixed())
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.fixed())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.fixed())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.fixed())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.fixed())
    }

    /// Never NaN, which would not equal itself.
    pub(super) fn f64(&mut self) -> f64 {
        f64::from(self.i32()) / 3.0
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.fixed())
    }

    pub(super) fn error_code(&mut self) -> ErrorCode {
        ErrorCode(self.i16())
    }

    pub(super) fn string(&mut self) -> Cow<'static, str> {
        (0..self.length()).map(|_| char::from(self.byte())).collect::<String>().into()
    }

    pub(super) fn bytes(&mut self) -> Cow<'static, [u8]> {
        (0..self.length()).map(|_| self.byte()).collect::<Vec<u8>>().into()
    }

    /// Chunks, of which some are long enough to be spliced.
    pub(super) fn records(&mut self) -> Records<'static> {
        let chunk = |length| Bytes::from(vec![length as u8; length]);
        Records::from_chunks((0..self.length()).map(|_| chunk(usize::from(self.byte()) * 8)).collect())
    }

    pub(super) fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let length = self.byte() % (ARRAY_LEN_MAX + 1);
        (0..length).map(|_| element(self)).collect()
    }
}
