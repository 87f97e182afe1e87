//! Passes every record on, in the contract's plain form: the least that a plugin can do, to measure what a plugin costs.

use millstream_sdk::prelude::*;

#[transform(typed)]
fn identity(record: Record, out: &mut Output) -> Result<()> {
    out.keep(&record);
    Ok(())
}
