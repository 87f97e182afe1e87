//! A consumer that writes what it reads behind the secret "token", to see who was granted it.

use std::time::Duration;

use millstream_sdk::prelude::*;
use millstream_sdk::run;
use serde::Deserialize;

/// It gets whatever the plugin before it had.
#[derive(Deserialize)]
struct Config {}

#[sink]
fn secretive(sink: &mut Sink, _: &Config) -> Result<()> {
    loop {
        for message in sink.poll(100, Duration::from_millis(200))? {
            let mut value = run::secret("token").unwrap_or_else(|_| b"nothing".to_vec());
            value.push(b' ');
            value.extend_from_slice(message.value());
            sink.send(Outgoing::new(value))?;
        }
        sink.commit()?;
    }
}
