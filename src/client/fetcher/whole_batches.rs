//! The whole batches of a fetched partition. An answer that is cut at its byte limit may end within one.

use bytes::Bytes;
use millstream_record::{BatchError, RecordBatch};

/// Batches end to end, and where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FetchedBatches {
    pub(super) batches: Bytes,
    pub(super) next_offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WholeBatchesError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("the batch ends at offset {last_offset}")]
    Behind { last_offset: i64 },
}

/// None if there are no records.
pub(super) fn whole_batches(
    records: &Bytes,
    position: i64,
) -> Result<Option<FetchedBatches>, WholeBatchesError> {
    let (mut start, mut end, mut next_offset) = (0, 0, position);
    for batch in RecordBatch::batches(records) {
        match batch {
            // A broker may hand out the batch before the one that was asked for, never one before it only.
            Ok(batch) if batch.next_offset() <= position => {
                end += batch.size_in_bytes();
                start = end;
            }
            Ok(batch) => {
                // Offsets that go back would be read for ever.
                if batch.next_offset() <= next_offset {
                    return Err(WholeBatchesError::Behind { last_offset: batch.last_offset() });
                }
                end += batch.size_in_bytes();
                next_offset = batch.next_offset();
            }
            Err(BatchError::Incomplete { .. }) if end > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    if start < end {
        return Ok(Some(FetchedBatches { batches: records.slice(start..end), next_offset }));
    }
    match end {
        0 => Ok(None),
        _ => Err(WholeBatchesError::Behind { last_offset: position - 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::BatchBuilder;

    fn batch(base_offset: i64, records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1 << 20).base_offset(base_offset);
        for _ in 0..records {
            builder.append(0, None, Some(b"value"), []).unwrap();
        }
        builder.finish().unwrap()
    }

    /// The length of what is kept, and the next offset.
    fn check(records: Vec<u8>, position: i64) -> Result<Option<(usize, i64)>, WholeBatchesError> {
        let found = whole_batches(&records.into(), position)?;
        Ok(found.map(|found| (found.batches.len(), found.next_offset)))
    }

    #[test]
    fn the_position_moves_behind_the_last_whole_batch() {
        let (first, second) = (batch(10, 5), batch(15, 3));
        let both = [first.clone(), second.clone()].concat();
        assert_eq!(check(both.clone(), 10), Ok(Some((both.len(), 18))));
        assert_eq!(check(both.clone(), 12), Ok(Some((both.len(), 18))), "position within the first");
        assert_eq!(check(both[..both.len() - 1].to_vec(), 10), Ok(Some((first.len(), 15))), "cut");
        assert_eq!(
            check(both[..first.len() + 3].to_vec(), 10),
            Ok(Some((first.len(), 15))),
            "cut in the header"
        );
        assert_eq!(check(both, 15), Ok(Some((second.len(), 18))), "one batch early");
        assert_eq!(check(Vec::new(), 10), Ok(None));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(matches!(check(batch(10, 5)[..40].to_vec(), 10), Err(WholeBatchesError::Batch(_))));
        assert_eq!(check(batch(10, 5), 15), Err(WholeBatchesError::Behind { last_offset: 14 }));
        let back = [batch(10, 5), batch(12, 1)].concat();
        assert_eq!(check(back, 10), Err(WholeBatchesError::Behind { last_offset: 12 }));
    }
}
