//! CRC-32C (Castagnoli), the checksum of a batch.
//!
//! With `std` the crc32c crate computes it, with the processor's instruction where there is one. That crate
//! needs `std` to find out, so the `no_std` build (guests, which seldom checksum anything) has a table here.

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// The CRC-32C of what `crc` covers, followed by `bytes`.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(feature = "std")]
    return ::crc32c::crc32c_append(crc, bytes);
    #[cfg(not(feature = "std"))]
    return table::crc32c_append(crc, bytes);
}

#[cfg(any(test, not(feature = "std")))]
mod table {
    /// The polynomial, bit-reversed.
    const CASTAGNOLI: u32 = 0x82f6_3b78;

    static TABLE: [u32; 256] = table();

    pub(super) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!crc, |crc, &byte| {
            let [low, ..] = crc.to_le_bytes();
            TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
        })
    }

    const fn table() -> [u32; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ CASTAGNOLI } else { crc >> 1 };
                bit += 1;
            }
            table[byte as usize] = crc;
            byte += 1;
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_implementations_agree_with_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(table::crc32c_append(0, b"123456789"), 0xe306_9283);
        let bytes: alloc::vec::Vec<u8> = (0..=255).cycle().take(3000).collect();
        for at in [0, 1, 7, 8, 63, 1500, 3000] {
            let (head, tail) = bytes.split_at(at);
            let split = crc32c_append(crc32c(head), tail);
            assert_eq!(split, crc32c(&bytes));
            assert_eq!(split, table::crc32c_append(table::crc32c_append(0, head), tail));
        }
    }
}
