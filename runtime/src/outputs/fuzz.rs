//! What must hold for any bytes that a plugin returns: the body of the fuzz target, and of a property test.

use std::sync::Arc;

use millstream_record::RecordBody;

use super::{OutputRules, decode};

/// Decodes `packed`; if it is accepted, everything in it is within the rules.
pub fn check_packed(packed: &[u8], record_count: usize) {
    let topics: [Arc<str>; 2] = ["out".into(), "foo".into()];
    let rules = OutputRules { record_count, outputs_max: 1000, output_bytes_max: 1 << 20, topics: &topics };
    let mut outputs = Vec::new();
    let accepted = decode(packed, &rules, &mut outputs).is_ok();
    assert!(outputs.len() <= rules.outputs_max);
    if !accepted {
        return;
    }
    for output in &outputs {
        assert!((output.index as usize) < record_count);
        assert!(output.topic.is_none_or(|topic| usize::from(topic) < topics.len()));
        assert!(output.partition.is_none_or(|partition| partition >= 0));
        assert!(output.timestamp.is_none_or(|timestamp| timestamp >= 0));
        if let Some(body) = output.body {
            assert!(RecordBody::parse(body.of(packed)).is_ok());
        }
    }
}
