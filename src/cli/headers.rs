//! The headers of a record, whatever bytes their names are.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use rdkafka::message::{Header, Headers};

thread_local! {
    static READS: Cell<bool> = const { Cell::new(false) };
}

/// The headers that can be read, and how many others there are.
///
/// Kafka takes any bytes for a header's name. The client's only access to a header panics where the name is not UTF-8
/// (its C library has another, which is not safe code), so one such record would end the command in front of every
/// record behind it. The panic leaves nothing half done: it is in the conversion of a name, behind the last call.
pub(crate) fn read(headers: &impl Headers) -> (Vec<Header<'_, &[u8]>>, usize) {
    static HOOK: Once = Once::new();
    // What is expected is not reported as a defect of this program.
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !READS.get() {
                report(panicked);
            }
        }));
    });
    let (mut readable, mut others) = (Vec::new(), 0);
    for index in 0..headers.count() {
        READS.set(true);
        let header = panic::catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        READS.set(false);
        match header {
            Ok(Some(header)) => readable.push(header),
            Ok(None) => {}
            Err(_) => others += 1,
        }
    }
    (readable, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics as the client does.
    struct Named([&'static [u8]; 3]);

    impl Headers for Named {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            let key = std::str::from_utf8(self.0.get(index)?).unwrap();
            Some(Header { key, value: Some(b"v") })
        }
    }

    #[test]
    fn a_name_that_is_not_text_takes_no_other_header_with_it() {
        let found = |names: [&'static [u8]; 3]| {
            let named = Named(names);
            let (headers, others) = read(&named);
            assert!(headers.iter().all(|header| header.value == Some(b"v")));
            (headers.iter().map(|header| header.key.to_owned()).collect::<Vec<_>>().join(" "), others)
        };
        assert_eq!(found([b"a", b"\xff", b"b"]), ("a b".to_owned(), 1));
        assert_eq!(found([b"a", b"b", b"c"]), ("a b c".to_owned(), 0));
    }
}
