//! A set of offsets, a bit each, in pages: what lies far apart takes a page each, what lies together little.

use std::collections::HashMap;

const PAGE_BITS: i64 = 1024;
const WORDS: usize = PAGE_BITS as usize / 64;

#[derive(Debug, Default)]
pub(super) struct Bits(HashMap<i64, [u64; WORDS]>);

impl Bits {
    pub(super) fn set(&mut self, offset: i64) {
        let (word, bit) = place(offset);
        self.0.entry(offset.div_euclid(PAGE_BITS)).or_default()[word] |= bit;
    }

    pub(super) fn get(&self, offset: i64) -> bool {
        let (word, bit) = place(offset);
        self.0.get(&offset.div_euclid(PAGE_BITS)).is_some_and(|page| page[word] & bit != 0)
    }
}

fn place(offset: i64) -> (usize, u64) {
    let index = offset.rem_euclid(PAGE_BITS) as usize;
    (index / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn what_is_set_is_set() {
        let mut bits = Bits::default();
        let set = [0, 1, 63, 64, 200, 1023, 1024, 5_000_000_000];
        set.iter().for_each(|&offset| bits.set(offset));
        for offset in (0..3000).chain(5_000_000_000 - 100..5_000_000_000 + 100) {
            assert_eq!(bits.get(offset), set.contains(&offset), "{offset}");
        }
    }
}
