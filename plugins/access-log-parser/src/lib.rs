//! Parses the access logs of web servers into JSON.
//!
//! Input: one line for each record, in the common or the combined log format of Apache and nginx. Output: the key
//! is the client, the timestamp the time of the request, the value for example
//!
//! ```json
//! {"client":"83.149.9.216","user":null,"time":"2015-05-17T10:05:03Z","time_ms":1431857103000,"method":"GET",
//!  "path":"/search","query":"q=mill","protocol":"HTTP/1.1","status":200,"bytes":203023,"referrer":null,
//!  "agent":"curl/8.0"}
//! ```
//!
//! A `-` in the line is null, and 0 for `bytes`, as Apache means it. Where the request line is not one (a TLS
//! handshake on a plain port, for example), `method`, `path`, `query` and `protocol` are null and `request` holds
//! what was there: the line still counts. A line that cannot be understood is rejected with the reason.

mod entry;
mod line;
mod quoted;
mod request;
mod time;

use entry::Entry;
use millstream_sdk::prelude::*;

#[transform]
fn access_log_parser(record: Record, out: &mut Output) -> Result<()> {
    let entry = Entry::parse(record.bytes()?)?;
    let parsed = out.record(&record).json(&entry).timestamp(entry.time_ms);
    match &entry.client {
        Some(client) => parsed.key(client.as_ref()).emit(),
        None => parsed.null_key().emit(),
    }
}

#[cfg(test)]
mod tests;
