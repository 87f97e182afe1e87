//! A dead letter: the record that it was, and what its last block of headers says.

use millstream_broker::ids::TopicName;
use millstream_runtime::printable::printable;
use millstream_runtime::stage::letter_headers as names;
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::cli::headers;

type Header = (String, Option<Vec<u8>>);

/// Of the names in a block; a stage writes far shorter ones.
const NAME_BYTES_MAX: usize = 1024;

/// A record of a dead letter topic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    /// None where no stage has written it.
    pub(super) error: Option<Error>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    /// Without those of `error`.
    pub(super) headers: Vec<Header>,
    /// Headers whose names are not UTF-8, which are not among those.
    pub(super) unreadable: usize,
}

/// What happened, and to which record.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Error {
    pub(super) reason: String,
    pub(super) plugin: Option<String>,
    pub(super) version: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) stage: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Letters of older nodes have none.
    pub(super) timestamp: Option<i64>,
    /// How many bytes the value had before it was cut.
    pub(super) truncated: Option<u64>,
    /// Records of the batch that the value is.
    pub(super) batch_records: Option<u64>,
}

impl Letter {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let (headers, unreadable) = message.headers().map(headers::read).unwrap_or_default();
        let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        };
        let (headers, error) = split(headers.into_iter().map(owned).collect());
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            error,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            unreadable,
        }
    }

    pub(super) fn place(&self) -> String {
        format!("partition {} offset {}", self.partition, self.offset)
    }

    /// When the record was made, as far as the letter knows.
    pub(super) fn original_timestamp(&self) -> Option<i64> {
        let original = self.error.as_ref().and_then(|error| error.timestamp);
        original.or(self.timestamp).filter(|timestamp| *timestamp >= 0)
    }

    /// Why this is not the record that it was, if so.
    pub(super) fn incomplete(&self) -> Option<&'static str> {
        match &self.error {
            None => Some("no stage has written it"),
            Some(Error { truncated: Some(_), .. }) => Some("its value is cut"),
            Some(Error { batch_records: Some(_), .. }) => Some("it is a batch that can't be opened"),
            Some(_) if self.unreadable > 0 => Some("the name of a header is not UTF-8"),
            Some(_) => None,
        }
    }
}

/// The record's own headers, and what the last block says.
fn split(mut headers: Vec<Header>) -> (Vec<Header>, Option<Error>) {
    let Some(begin) = headers.iter().rposition(|(name, _)| name == names::REASON) else {
        return (headers, None);
    };
    let block = &headers[begin..];
    if !block.iter().all(|(name, _)| name.starts_with(names::PREFIX)) {
        return (headers, None);
    }
    match read(block) {
        Some(error) => {
            headers.truncate(begin);
            (headers, Some(error))
        }
        None => (headers, None),
    }
}

/// Whoever may produce to the topic may have written the block: what it names goes to terminals, and its topic into
/// requests. The reason is kept as it is, to be searched; whoever shows it cleans it.
fn read(block: &[Header]) -> Option<Error> {
    let text = |name: &str| {
        let value = block.iter().find(|(header, _)| header == name)?.1.as_deref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let name = |name: &str| text(name).map(|text| printable(&text, NAME_BYTES_MAX));
    let topic = text(names::TOPIC)?;
    TopicName::new(&topic).ok()?;
    let label = name(names::PLUGIN);
    let (plugin, version) = match label.as_deref().map(|label| label.rsplit_once('@')) {
        Some(Some((plugin, version))) => (Some(plugin.to_owned()), Some(version.to_owned())),
        _ => (label, None),
    };
    Some(Error {
        reason: text(names::REASON)?,
        plugin,
        version,
        sha256: name(names::PLUGIN_SHA256),
        stage: name(names::STAGE)?,
        topic,
        partition: text(names::PARTITION)?.parse().ok()?,
        offset: text(names::OFFSET)?.parse().ok()?,
        timestamp: text(names::TIMESTAMP).and_then(|timestamp| timestamp.parse().ok()),
        truncated: text(names::TRUNCATED).and_then(|bytes| bytes.parse().ok()),
        batch_records: text(names::BATCH_RECORDS).and_then(|records| records.parse().ok()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn block(reason: &str) -> Vec<Header> {
        let headers = [
            (names::REASON, reason),
            (names::PLUGIN, "a@b@v3:0f1e"),
            (names::PLUGIN_SHA256, "0f1e2d"),
            (names::STAGE, "p.s"),
            (names::TOPIC, "orders"),
            (names::PARTITION, "2"),
            (names::OFFSET, "42"),
            (names::TIMESTAMP, "1000"),
        ];
        headers.map(|(name, value)| (name.to_owned(), Some(value.into()))).into()
    }

    pub(in super::super) fn letter(reason: &str) -> Letter {
        let (headers, error) = split(block(reason));
        Letter {
            partition: 0,
            offset: 7,
            timestamp: Some(2000),
            error,
            key: None,
            value: None,
            headers,
            unreadable: 0,
        }
    }

    /// Letters of somebody who wants to write to the terminal of whoever looks at them: one per header, whose name
    /// and value do so, and one of which all do.
    pub(in super::super) fn poisoned() -> Vec<Letter> {
        let poison = |(_, value): &mut Header| {
            let bytes = value.as_deref().unwrap_or_default();
            let poison = b"\x1b]52;c;cm0=\x07\r\xe2\x80\xae";
            *value = Some([poison, bytes, poison].concat());
        };
        let letter = |headers: Vec<Header>| {
            let (headers, error) = split(headers);
            Letter { headers, error, ..letter("why") }
        };
        let mut letters: Vec<Letter> = (0..block("").len())
            .map(|at| {
                let mut headers = block("why");
                poison(&mut headers[at]);
                letter(headers)
            })
            .collect();
        let mut all = block("why");
        all.iter_mut().for_each(poison);
        all.insert(0, ("\x1b[2J".to_owned(), Some(b"\x1b[2J".to_vec())));
        letters.push(letter(all));
        // What is read all the same is what the lists show.
        assert_eq!(letters.iter().filter(|letter| letter.error.is_some()).count(), 5);
        letters
    }

    #[test]
    fn the_last_block_is_what_happened_last() {
        let own = vec![("h".to_owned(), Some(b"x".to_vec())), ("none".to_owned(), None)];
        let (headers, error) = split([own.clone(), block("first"), block("second")].concat());
        assert_eq!(headers, [own, block("first")].concat(), "what happened before stays with the record");
        let expected = Error {
            reason: "second".into(),
            plugin: Some("a@b".into()),
            version: Some("v3:0f1e".into()),
            sha256: Some("0f1e2d".into()),
            stage: "p.s".into(),
            topic: "orders".into(),
            partition: 2,
            offset: 42,
            timestamp: Some(1000),
            ..Error::default()
        };
        assert_eq!(error, Some(expected));
        assert_eq!(letter("why").original_timestamp(), Some(1000));
    }

    #[test]
    fn what_no_stage_has_written_is_no_letter() {
        let mut behind = block("why");
        behind.push(("h".to_owned(), None));
        let mut cut = block("why");
        cut.truncate(4);
        let mut garbled = block("why");
        garbled[5].1 = Some(b"two".to_vec());
        let with_topic = |topic: &str| {
            let mut headers = block("why");
            headers[4].1 = Some(topic.into());
            headers
        };
        let (escape, long) = (with_topic("\x1b]0;x\x07"), with_topic(&"x".repeat(250)));
        for headers in [Vec::new(), behind, cut, garbled, with_topic(""), with_topic(".."), escape, long] {
            assert_eq!(split(headers.clone()), (headers, None));
        }
    }

    #[test]
    fn some_letters_are_not_the_record_that_they_were() {
        let mut whole = letter("why");
        assert_eq!(whole.incomplete(), None);
        for (name, expected) in [(names::TRUNCATED, "cut"), (names::BATCH_RECORDS, "batch")] {
            let mut headers = block("why");
            headers.push((name.to_owned(), Some(b"9".to_vec())));
            whole.error = split(headers).1;
            assert!(whole.incomplete().is_some_and(|why| why.contains(expected)), "{name}");
        }
        whole.error = split(block("why")).1;
        whole.unreadable = 1;
        assert_eq!(whole.incomplete(), Some("the name of a header is not UTF-8"));
        whole.error = None;
        assert!(whole.incomplete().is_some());
    }
}
