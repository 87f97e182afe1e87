//! The other side: connections of brokers, and what answers them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::message::{
    Call as _, FRAME_BYTES_MAX, HELLO_BYTES_MAX, Hello, MessageError, RequestHeader, VERSION, Welcome,
    read_frame, response, split_request, write_frame,
};
use super::transport::BoxedStream;
use crate::codec;

/// How long a peer may take to say who it is.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);

/// Answers requests of one connection's peer. The error is what the peer is told.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether this peer is spoken to.
    fn greet(&self, hello: &Hello) -> Result<Welcome, String>;

    /// `body` is a value of the codec, and so is the answer.
    fn answer(
        &self,
        peer: &Hello,
        api_key: i16,
        body: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, String>> + Send;
}

/// Serves a connection until the peer closes it.
pub(crate) async fn serve(mut stream: BoxedStream, service: Arc<impl Service>) -> Result<(), MessageError> {
    let first = timeout(HELLO_TIME_MAX, read_frame(&mut stream, HELLO_BYTES_MAX)).await;
    let Ok(Some(frame)) = first.unwrap_or(Ok(None)) else { return Ok(()) };
    let (header, body) = split_request(&frame)?;
    let greeted = match check(header).and_then(|()| hello(header, body)) {
        Ok(hello) => service.greet(&hello).map(|welcome| (hello, welcome)),
        Err(reason) => Err(reason),
    };
    let answer = match &greeted {
        Ok((_, welcome)) => Ok(codec::encode(welcome)?),
        Err(reason) => Err(reason.clone()),
    };
    write_frame(&mut stream, &response(header.correlation_id, &answer)).await?;
    let Ok((peer, _)) = greeted else { return Ok(()) };
    while let Some(frame) = read_frame(&mut stream, FRAME_BYTES_MAX).await? {
        let (header, body) = split_request(&frame)?;
        let answer = match check(header) {
            Ok(()) => service.answer(&peer, header.api_key, body).await,
            Err(reason) => Err(reason),
        };
        write_frame(&mut stream, &response(header.correlation_id, &answer)).await?;
    }
    Ok(())
}

fn check(header: RequestHeader) -> Result<(), String> {
    let RequestHeader { api_key, version, .. } = header;
    match version == VERSION {
        true => Ok(()),
        false => Err(format!("request {api_key} has version {version}, this broker knows {VERSION}")),
    }
}

fn hello(header: RequestHeader, body: &[u8]) -> Result<Hello, String> {
    if header.api_key != Hello::API_KEY {
        return Err(format!("the first request is {}, not a hello", header.api_key));
    }
    codec::decode(body).map_err(|error| format!("the hello can't be read: {error}"))
}
