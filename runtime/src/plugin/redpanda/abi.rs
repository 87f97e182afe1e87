//! The functions that a module imports, as the crate `redpanda-transform-sdk-sys` declares them. What a guest hands over
//! is hostile: a place outside of its memory is a trap, everything else an error number.

use std::sync::Arc;

use wasmtime::{Caller, Error, Linker, Memory, Result};

use super::guest::State;
use super::job::WriteError;
use crate::engine::{ABI_VERSIONS, TRANSFORM};

/// There is no batch, or no record (left) in it.
const NO_ACTIVE_TRANSFORM: i32 = -1;
/// It is too small, or what it holds is malformed.
const INVALID_BUFFER: i32 = -2;
/// The record may not be written there.
const INVALID_WRITE: i32 = -3;

/// Of the leader's epoch, and of the producer: what Kafka writes where there is none.
const NONE: i32 = -1;

/// Places in the guest's memory, for a batch's header.
struct HeaderPlaces {
    base_offset: u32,
    record_count: u32,
    partition_leader_epoch: u32,
    attributes: u32,
    last_offset_delta: u32,
    base_timestamp: u32,
    max_timestamp: u32,
    producer_id: u32,
    producer_epoch: u32,
    base_sequence: u32,
}

/// A part of the guest's memory.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub(super) at: u32,
    pub(super) length: u32,
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    for version in ABI_VERSIONS {
        linker.func_wrap(TRANSFORM, version, || {})?;
    }
    type Places = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);
    linker.func_wrap_async(TRANSFORM, "read_batch_header", |caller: Caller<'_, State>, places: Places| {
        let places = HeaderPlaces {
            base_offset: places.0,
            record_count: places.1,
            partition_leader_epoch: places.2,
            attributes: places.3,
            last_offset_delta: places.4,
            base_timestamp: places.5,
            max_timestamp: places.6,
            producer_id: places.7,
            producer_epoch: places.8,
            base_sequence: places.9,
        };
        Box::new(read_batch_header(caller, places))
    })?;
    linker.func_wrap(
        TRANSFORM,
        "read_next_record",
        |caller: Caller<'_, State>, attributes: u32, timestamp: u32, offset: u32, at: u32, length: u32| {
            read_next_record(caller, [attributes, timestamp, offset], Buffer { at, length })
        },
    )?;
    linker.func_wrap(TRANSFORM, "write_record", |caller: Caller<'_, State>, at: u32, length: u32| {
        write(caller, Buffer { at, length }, None)
    })?;
    linker.func_wrap(
        TRANSFORM,
        "write_record_with_options",
        |caller: Caller<'_, State>, at: u32, length: u32, options_at: u32, options_length: u32| {
            let options = Buffer { at: options_at, length: options_length };
            write(caller, Buffer { at, length }, Some(options))
        },
    )?;
    Ok(())
}

/// Hands back the batch before, waits for the next, and returns the size of its longest record.
async fn read_batch_header(mut caller: Caller<'_, State>, places: HeaderPlaces) -> Result<i32> {
    let state = caller.data_mut();
    if state.memory.is_none() {
        return Err(too_early());
    }
    let (desk, memory_bytes) = (Arc::clone(&state.desk), state.memory_bytes());
    let job = desk.next(state.job.take(), memory_bytes).await;
    // The time for a batch begins with it.
    caller.data_mut().begin_time(job.budget);
    let header = job.header();
    let (mut memory, state) = parts(&mut caller)?;
    state.begin(job);
    memory.put(places.base_offset, &header.base_offset.to_le_bytes())?;
    memory.put(places.record_count, &header.record_count.to_le_bytes())?;
    memory.put(places.partition_leader_epoch, &NONE.to_le_bytes())?;
    memory.put(places.attributes, &header.attributes.to_le_bytes())?;
    memory.put(places.last_offset_delta, &header.last_offset_delta.to_le_bytes())?;
    memory.put(places.base_timestamp, &header.base_timestamp.to_le_bytes())?;
    memory.put(places.max_timestamp, &header.max_timestamp.to_le_bytes())?;
    memory.put(places.producer_id, &i64::from(NONE).to_le_bytes())?;
    memory.put(places.producer_epoch, &(-1_i16).to_le_bytes())?;
    memory.put(places.base_sequence, &NONE.to_le_bytes())?;
    Ok(header.record_bytes_max)
}

/// Copies key, value and headers of the next record into `buffer`; returns how many bytes they are.
fn read_next_record(mut caller: Caller<'_, State>, places: [u32; 3], buffer: Buffer) -> Result<i32> {
    let (mut memory, state) = parts(&mut caller)?;
    let Some(job) = state.job.as_mut() else { return Ok(NO_ACTIVE_TRANSFORM) };
    let Some(record) = job.unread() else { return Ok(NO_ACTIVE_TRANSFORM) };
    if (buffer.length as usize) < record.body.len() {
        return Ok(INVALID_BUFFER);
    }
    let [attributes, timestamp, offset] = places;
    // No record has attributes yet.
    memory.put(attributes, &[0])?;
    memory.put(timestamp, &record.timestamp.to_le_bytes())?;
    memory.put(offset, &record.offset.to_le_bytes())?;
    memory.put(buffer.at, record.body)?;
    let length = i32::try_from(record.body.len()).expect("a record's length is an i32");
    job.advance();
    Ok(length)
}

/// Takes the key, value and headers that lie in `buffer`; returns how many bytes they are.
fn write(mut caller: Caller<'_, State>, buffer: Buffer, options: Option<Buffer>) -> Result<i32> {
    let (memory, state) = parts(&mut caller)?;
    let body = memory.get(buffer)?;
    let options = options.map_or(Ok(&[][..]), |options| memory.get(options))?;
    let Some(job) = state.job.as_mut() else { return Ok(NO_ACTIVE_TRANSFORM) };
    let error = match job.write(body, options) {
        // Longer ones are beyond the limit.
        Ok(()) => return Ok(i32::try_from(body.len()).expect("a record's length is an i32")),
        Err(error) => error,
    };
    let number = match error {
        WriteError::NoRecord => NO_ACTIVE_TRANSFORM,
        WriteError::Record(_) | WriteError::Options => INVALID_BUFFER,
        WriteError::Topic(_) => INVALID_WRITE,
        WriteError::Limit(limit) => return Err(limit.into()),
    };
    // The number is all that the guest gets to know.
    state.warn(&error.to_string());
    Ok(number)
}

/// The guest's memory.
pub(super) struct GuestMemory<'a>(&'a mut [u8]);

fn parts<'a>(caller: &'a mut Caller<'_, State>) -> Result<(GuestMemory<'a>, &'a mut State)> {
    let memory = caller.data().memory.ok_or_else(too_early)?;
    Ok(parts_of(memory, caller))
}

pub(super) fn parts_of<'a>(
    memory: Memory,
    caller: &'a mut Caller<'_, State>,
) -> (GuestMemory<'a>, &'a mut State) {
    let (bytes, state) = memory.data_and_store_mut(caller);
    (GuestMemory(bytes), state)
}

impl GuestMemory<'_> {
    pub(super) fn get(&self, buffer: Buffer) -> Result<&[u8]> {
        let Buffer { at, length } = buffer;
        let bytes = self.0.get(at as usize..).and_then(|rest| rest.get(..length as usize));
        bytes.ok_or_else(|| outside(at, length as usize))
    }

    pub(super) fn put(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let place = self.0.get_mut(at as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or_else(|| outside(at, bytes.len()))?.copy_from_slice(bytes);
        Ok(())
    }
}

fn outside(at: u32, length: usize) -> Error {
    Error::msg(format!("it gave the host {length} bytes at {at:#x}, which are not in its memory"))
}

/// A module can call the host from the function that instantiates it.
fn too_early() -> Error {
    Error::msg("it called the host before its main function was run")
}
