//! How a commit's bytes are cut so that redb's pages are full.
//!
//! redb gives a value with a leaf of its own a power of two of 4 KiB pages, and never uses what is
//! left over: a piece just past a power of two wastes half the file and halves the throughput.

/// redb's page.
const PAGE_BYTES: usize = 4096;
/// What a leaf with one pair costs beside the value, for a key of 8 bytes.
const LEAF_OVERHEAD_BYTES: usize = 16;
/// The largest piece: larger ones write no faster and read more.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * PAGE_BYTES - LEAF_OVERHEAD_BYTES;

/// The lengths of the pieces that `bytes` are cut into, at most [`PIECE_BYTES_MAX`] each. A rest is
/// cut by halves, unless leaving up to a sixteenth of its pages empty saves that.
pub(crate) fn piece_lengths(bytes: usize) -> impl Iterator<Item = usize> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let piece = piece_length(rest);
        rest -= piece;
        Some(piece)
    })
}

fn piece_length(rest: usize) -> usize {
    if rest >= PIECE_BYTES_MAX {
        return PIECE_BYTES_MAX;
    }
    let pages = (rest + LEAF_OVERHEAD_BYTES).div_ceil(PAGE_BYTES);
    let above = pages.next_power_of_two();
    if (above - pages) * 16 <= above {
        return rest;
    }
    above / 2 * PAGE_BYTES - LEAF_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_pages(piece: usize) -> usize {
        (piece + LEAF_OVERHEAD_BYTES).div_ceil(PAGE_BYTES).next_power_of_two()
    }

    #[test]
    fn pieces_cover_everything_and_waste_little() {
        for bytes in (1..3 * PIECE_BYTES_MAX).step_by(37) {
            let pieces: Vec<usize> = piece_lengths(bytes).collect();
            assert_eq!(pieces.iter().sum::<usize>(), bytes);
            assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES_MAX).contains(piece)));
            let pages: usize = pieces.iter().map(|piece| file_pages(*piece)).sum();
            let needed = bytes.div_ceil(PAGE_BYTES);
            assert!(pages <= needed + needed / 12 + 2, "{bytes} bytes take {pages} pages: {pieces:?}");
        }
    }

    #[test]
    fn sizes_at_the_page_boundary_are_one_piece() {
        for piece in [1, 4080, 8176, 65_520, PIECE_BYTES_MAX] {
            assert_eq!(piece_lengths(piece).collect::<Vec<_>>(), [piece]);
        }
        assert_eq!(piece_lengths(PIECE_BYTES_MAX + 1).collect::<Vec<_>>(), [PIECE_BYTES_MAX, 1]);
    }
}
