//! A set of numbers, a bit each.

#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn set(&mut self, index: usize) {
        let word = index / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    pub(super) fn get(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn what_is_set_is_set() {
        let mut bits = Bits::default();
        let set = [0, 1, 63, 64, 200];
        set.iter().for_each(|&index| bits.set(index));
        for index in 0..300 {
            assert_eq!(bits.get(index), set.contains(&index), "{index}");
        }
    }
}
