//! Greets whoever a record names.

use millstream_sdk::prelude::*;

#[transform]
fn hello(record: Record, out: &mut Output) -> Result<()> {
    out.record(&record).value(format!("hello, {}", record.text()?)).emit()
}

#[cfg(test)]
mod tests {
    use millstream_sdk::testing::{Harness, Input};

    use super::hello;

    #[test]
    fn greets() {
        let mut harness = Harness::<hello>::new("null").unwrap();
        let outcome = harness.run([Input::value("Ada").key("7"), Input::null()]).unwrap();
        assert_eq!(outcome.outputs[0].text(), "hello, Ada");
        assert_eq!(outcome.outputs[0].key_text(), "7");
        assert_eq!(outcome.rejected[0].reason, "the value is null");
    }
}
