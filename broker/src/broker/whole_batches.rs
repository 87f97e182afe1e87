//! Batches out of the chunks in which a log hands them out.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use millstream_record::{BatchError, HEADER_BYTES, RecordBatch};

/// The batches that lie end to end in `chunks`, each in one piece. Only one that lies in several chunks is copied.
pub(crate) fn whole_batches(chunks: Vec<Bytes>) -> Result<Vec<Bytes>, BatchError> {
    let mut chunks: VecDeque<Bytes> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
    let mut batches = Vec::new();
    while !chunks.is_empty() {
        let size = RecordBatch::size_of_first(&front(&chunks, HEADER_BYTES))?;
        batches.push(take(&mut chunks, size)?);
    }
    Ok(batches)
}

/// The first `length` bytes, or what there is.
fn front(chunks: &VecDeque<Bytes>, length: usize) -> Bytes {
    match chunks.front() {
        Some(first) if first.len() >= length => first.slice(..length),
        _ => {
            let bytes = chunks.iter().flat_map(|chunk| chunk.iter()).take(length);
            bytes.copied().collect::<Vec<_>>().into()
        }
    }
}

fn take(chunks: &mut VecDeque<Bytes>, size: usize) -> Result<Bytes, BatchError> {
    let available: usize = chunks.iter().map(Bytes::len).sum();
    if available < size {
        return Err(BatchError::Incomplete { needed: size, available });
    }
    if let Some(first) = chunks.front_mut()
        && first.len() > size
    {
        return Ok(first.split_to(size));
    }
    let mut batch = BytesMut::new();
    while let Some(mut chunk) = chunks.pop_front() {
        if batch.is_empty() && chunk.len() == size {
            return Ok(chunk);
        }
        batch.reserve(size - batch.len());
        let missing = (size - batch.len()).min(chunk.len());
        batch.extend_from_slice(&chunk[..missing]);
        chunk.advance(missing);
        if !chunk.is_empty() {
            chunks.push_front(chunk);
        }
        if batch.len() == size {
            break;
        }
    }
    Ok(batch.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::BatchBuilder;

    fn batch(value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1000);
        builder.append(0, None, Some(value), []).unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn batches_come_whole_wherever_their_chunks_end() {
        let batches = [batch(b"a"), batch(&[7; 100]), batch(b"c")];
        let all = batches.concat();
        for first in 0..all.len() {
            for second in [first, first + 1, first + 70, all.len()] {
                let second = second.min(all.len());
                let parts = [&all[..first], &all[first..second], &all[second..]];
                let chunks = parts.map(Bytes::copy_from_slice).to_vec();
                assert_eq!(whole_batches(chunks).unwrap(), batches, "cut at {first} and {second}");
            }
        }
        assert_eq!(whole_batches(Vec::new()).unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn what_lies_in_one_chunk_is_not_copied() {
        let all = Bytes::from([batch(b"a"), batch(b"b")].concat());
        let batches = whole_batches(vec![all.clone()]).unwrap();
        assert_eq!(batches[0].as_ptr(), all.as_ptr());
        assert_eq!(batches[1].as_ptr(), all[batches[0].len()..].as_ptr());
    }

    #[test]
    fn what_is_no_batch_is_told() {
        let whole = batch(b"a");
        let cut = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
        let incomplete = BatchError::Incomplete { needed: whole.len(), available: cut.len() };
        assert_eq!(whole_batches(vec![cut]), Err(incomplete));
        assert!(whole_batches(vec![Bytes::from_static(&[0; 100])]).is_err());
    }
}
