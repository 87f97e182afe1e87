//! A snapshot of the state on its way to another broker.
//!
//! Taking one costs nothing: the image is immutable, so a snapshot is a reference to it. Bytes are made when Raft
//! first reads them, for a follower that lags behind the log: the number of rows (8 bytes, little-endian), then each
//! row after its length (4 bytes), so that a receiver builds the image row by row.

use std::io::{self, Cursor, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use super::image::{ClusterId, MetadataImage};
use super::rows::{ImageBuilder, Row, RowError};
use crate::codec::{self, DecodeError, EncodeError};

/// The most that is accepted from a peer; an image at the limits of `command.rs` stays below it.
pub(super) const SNAPSHOT_BYTES_MAX: u64 = 512 * 1024 * 1024;

const COUNT_BYTES: usize = 8;

#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("the snapshot is cut off at byte {0}")]
    Truncated(usize),
    #[error("the snapshot is followed by {0} bytes")]
    TrailingBytes(usize),
    #[error("a row of the snapshot can't be read")]
    Row(#[from] DecodeError),
    #[error("the rows of the snapshot contradict each other")]
    Contradiction(#[from] RowError),
}

/// What Raft reads from and writes to.
#[derive(Debug, Default)]
pub struct SnapshotData {
    /// Not yet turned into bytes.
    image: Option<Arc<MetadataImage>>,
    bytes: Cursor<Vec<u8>>,
}

impl SnapshotData {
    pub(super) fn of(image: Arc<MetadataImage>) -> Self {
        Self { image: Some(image), bytes: Cursor::default() }
    }

    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        self.bytes()?;
        Ok(self.bytes.into_inner())
    }

    fn bytes(&mut self) -> io::Result<Pin<&mut Cursor<Vec<u8>>>> {
        if let Some(image) = self.image.take() {
            self.bytes = Cursor::new(encode(&image).map_err(io::Error::other)?);
        }
        Ok(Pin::new(&mut self.bytes))
    }
}

/// The image as bytes: equal images give equal bytes.
pub(super) fn encode(image: &MetadataImage) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = vec![0; COUNT_BYTES];
    let mut count = 0u64;
    for key in image.row_keys() {
        let row = codec::encode(&image.row(&key).expect("the image has the rows that it lists"))?;
        let length = u32::try_from(row.len()).expect("the codec bounds a value");
        bytes.extend(length.to_le_bytes());
        bytes.extend(row);
        count += 1;
    }
    bytes[..COUNT_BYTES].copy_from_slice(&count.to_le_bytes());
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8], cluster_id: ClusterId) -> Result<MetadataImage, SnapshotError> {
    let mut builder = ImageBuilder::of_cluster(cluster_id);
    let (count, mut rest) = bytes.split_first_chunk::<COUNT_BYTES>().ok_or(SnapshotError::Truncated(0))?;
    let mut missing = u64::from_le_bytes(*count);
    while missing > 0 {
        let cut = SnapshotError::Truncated(bytes.len() - rest.len());
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Err(cut) };
        let Some((row, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            return Err(cut);
        };
        builder.add(codec::decode::<Row>(row)?)?;
        rest = after;
        missing -= 1;
    }
    match rest.len() {
        0 => Ok(builder.finish()),
        more => Err(SnapshotError::TrailingBytes(more)),
    }
}

impl AsyncRead for SnapshotData {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().bytes()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for SnapshotData {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = self.get_mut().bytes()?;
        // The position is the peer's word, and bytes up to it would be filled in.
        if bytes.position().saturating_add(buf.len() as u64) > SNAPSHOT_BYTES_MAX {
            let message = format!("the snapshot is larger than {SNAPSHOT_BYTES_MAX} bytes");
            return Poll::Ready(Err(io::Error::other(message)));
        }
        bytes.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for SnapshotData {
    fn start_seek(self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        self.get_mut().bytes()?.start_seek(position)
    }

    fn poll_complete(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        self.get_mut().bytes()?.poll_complete(cx)
    }
}
