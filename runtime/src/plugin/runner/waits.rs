//! `wasi:io` for sources and sinks: what WASI does, but a wait ends the plugin's turn, as one for records does. A plugin
//! that waits for a response computes nothing.

use std::pin::pin;
use std::task::Poll;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError};

use super::RunnerState;

type StreamResult<T> = std::result::Result<T, StreamError>;

/// In the place of what waits and does not count.
pub(super) fn link(linker: &mut Linker<RunnerState>) -> Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    streams::add_to_linker::<_, HasSelf<RunnerState>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Does what may wait; what is there at once is no wait.
macro_rules! waited {
    ($state:ident, $table:ident => $call:expr) => {{
        let (done, has_waited) = {
            let RunnerState { host, turn, .. } = &mut *$state;
            let memory_bytes = host.limiter.memory_bytes();
            let $table = host.table();
            let mut call = pin!($call);
            match std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                Poll::Ready(done) => (done, false),
                Poll::Pending => {
                    turn.end(memory_bytes, false);
                    turn.charge();
                    let done = call.await;
                    turn.begin(0);
                    (done, true)
                }
            }
        };
        if has_waited {
            $state.host.begin_time();
            $state.settle().await;
        }
        done
    }};
}

impl poll::Host for RunnerState {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        waited!(self, table => poll::Host::poll(table, pollables))
    }
}

impl poll::HostPollable for RunnerState {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        waited!(self, table => poll::HostPollable::block(table, pollable))
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        poll::HostPollable::ready(self.host.table(), pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        poll::HostPollable::drop(self.host.table(), pollable)
    }
}

impl streams::Host for RunnerState {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.host.table(), error)
    }
}

impl streams::HostInputStream for RunnerState {
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.host.table(), stream, len)
    }

    async fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        waited!(self, table => streams::HostInputStream::blocking_read(table, stream, len))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.host.table(), stream, len)
    }

    async fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        waited!(self, table => streams::HostInputStream::blocking_skip(table, stream, len))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> Result<Resource<DynPollable>> {
        streams::HostInputStream::subscribe(self.host.table(), stream)
    }

    async fn drop(&mut self, stream: Resource<DynInputStream>) -> Result<()> {
        streams::HostInputStream::drop(self.host.table(), stream).await
    }
}

impl streams::HostOutputStream for RunnerState {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.host.table(), stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.host.table(), stream, bytes)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        streams::HostOutputStream::write_zeroes(self.host.table(), stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.host.table(), stream)
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.host.table(), to, from, len)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> Result<Resource<DynPollable>> {
        streams::HostOutputStream::subscribe(self.host.table(), stream)
    }

    async fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        waited!(self, table => streams::HostOutputStream::blocking_write_and_flush(table, stream, bytes))
    }

    async fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        waited!(self, table => streams::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, len))
    }

    async fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        waited!(self, table => streams::HostOutputStream::blocking_flush(table, stream))
    }

    async fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        waited!(self, table => streams::HostOutputStream::blocking_splice(table, to, from, len))
    }

    async fn drop(&mut self, stream: Resource<DynOutputStream>) -> Result<()> {
        streams::HostOutputStream::drop(self.host.table(), stream).await
    }
}
