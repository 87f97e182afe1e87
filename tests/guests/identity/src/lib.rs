//! Passes every record on: the least that a plugin can do, to measure what a plugin costs.

use millstream_sdk::prelude::*;

#[transform]
fn identity(record: Record, out: &mut Output) -> Result<()> {
    out.keep(&record);
    Ok(())
}
