//! The little packed format of every row: a version byte, varints, and a CRC-32C over all of it.

use millstream_record::crc32c;

/// Row bytes that don't decode. What a reader does about it depends on where the row came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRow {
    #[error("row is shorter than its contents")]
    Short,
    #[error("row's checksum doesn't match")]
    Checksum,
    #[error("row has version {0}, which this release doesn't know")]
    Version(u8),
    #[error("row holds a number out of range")]
    Range,
    #[error("row holds an unknown tag {0}")]
    Tag(u8),
    #[error("row has bytes left over")]
    TrailingBytes,
}

/// Bytes of the checksum at the end of a row.
const CHECKSUM_BYTES: usize = 4;

/// Builds one row.
pub(crate) struct PackedWriter {
    bytes: Vec<u8>,
}

impl PackedWriter {
    pub(crate) fn new(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// LEB128.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Zigzag, so that small negative numbers stay short.
    pub(crate) fn signed(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = crc32c(&self.bytes);
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}

/// Reads one row whose checksum and version have been checked.
pub(crate) struct PackedReader<'a> {
    rest: &'a [u8],
}

impl<'a> PackedReader<'a> {
    pub(crate) fn new(row: &'a [u8], version: u8) -> Result<Self, MalformedRow> {
        let split = row.len().checked_sub(CHECKSUM_BYTES).ok_or(MalformedRow::Short)?;
        let (body, checksum) = row.split_at(split);
        let stored = u32::from_le_bytes(checksum.try_into().map_err(|_| MalformedRow::Short)?);
        if crc32c(body) != stored {
            return Err(MalformedRow::Checksum);
        }
        match body.split_first() {
            Some((&found, rest)) if found == version => Ok(Self { rest }),
            Some((&found, _)) => Err(MalformedRow::Version(found)),
            None => Err(MalformedRow::Short),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), MalformedRow> {
        if self.rest.is_empty() { Ok(()) } else { Err(MalformedRow::TrailingBytes) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, MalformedRow> {
        let (&first, rest) = self.rest.split_first().ok_or(MalformedRow::Short)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], MalformedRow> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(MalformedRow::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, MalformedRow> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(MalformedRow::Range);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MalformedRow::Range)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, MalformedRow> {
        let value = self.varint()?;
        Ok(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    /// A varint that fits the narrower type.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, MalformedRow> {
        T::try_from(self.varint()?).map_err(|_| MalformedRow::Range)
    }

    pub(crate) fn narrow_signed<T: TryFrom<i64>>(&mut self) -> Result<T, MalformedRow> {
        T::try_from(self.signed()?).map_err(|_| MalformedRow::Range)
    }
}

/// `base + delta` of numbers from disk, which may be anything.
pub(crate) fn add(base: i64, delta: i64) -> Result<i64, MalformedRow> {
    base.checked_add(delta).ok_or(MalformedRow::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_damage_is_found() {
        let unsigned = [0, 1, 0x7f, 0x80, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, i64::MIN, i64::MAX];
        let mut row = PackedWriter::new(7);
        unsigned.iter().for_each(|n| row.varint(*n));
        signed.iter().for_each(|n| row.signed(*n));
        row.raw(b"abc");
        let row = row.finish();

        let mut reader = PackedReader::new(&row, 7).unwrap();
        assert!(unsigned.iter().all(|n| reader.varint().unwrap() == *n));
        assert!(signed.iter().all(|n| reader.signed().unwrap() == *n));
        assert_eq!(&reader.raw::<3>().unwrap(), b"abc");
        assert_eq!(reader.u8(), Err(MalformedRow::Short));
        reader.end().unwrap();

        assert_eq!(PackedReader::new(&row, 8).err(), Some(MalformedRow::Version(7)));
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(PackedReader::new(&flipped, 7).err(), Some(MalformedRow::Checksum), "bit {bit}");
        }
        for short in 0..row.len() {
            assert!(PackedReader::new(&row[..short], 7).is_err(), "{short} bytes");
        }
    }

    #[test]
    fn overlong_varints_are_refused() {
        let mut row = PackedWriter::new(1);
        row.raw(&[0xff; 9]);
        row.raw(&[0x02]);
        let row = row.finish();
        assert_eq!(PackedReader::new(&row, 1).unwrap().varint(), Err(MalformedRow::Range));
    }
}
