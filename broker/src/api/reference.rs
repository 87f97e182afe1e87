//! Writes `docs/PROTOCOL.md` from the APIs that are served, and fails when the file has drifted from them.

use std::fmt::Write as _;
use std::path::Path;

use millstream_wire::ApiKey;

use crate::config::reference::check_page;

fn page() -> String {
    let mut page = "# Protocol\n\n\
         This page is written from the APIs in `broker/src/api` by a test: `UPDATE_DOCS=1 cargo test -p \
         millstream-broker api::reference` writes it again.\n\n\
         A broker serves these APIs of Kafka's protocol, each in every version named; the messages are Kafka \
         4.3's. From the version in the fourth column on, they are *flexible* (KIP-482: compact lengths, tagged \
         fields). ApiVersions says the same to clients, but that Produce is named from version 0, as in Kafka \
         (KAFKA-18659).\n\n\
         An API or a version that isn't here closes the connection, as in Kafka; an unknown version of \
         ApiVersions is answered in version 0 (KIP-511).\n\n\
         | key | API | versions | flexible from | |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for &api in ApiKey::ALL {
        let versions = api.versions();
        let flexible = versions.clone().find(|&version| api.is_flexible(version));
        writeln!(
            page,
            "| {} | {} | {} to {} | {} | {} |",
            api as i16,
            api.name(),
            versions.start(),
            versions.end(),
            flexible.map_or_else(|| "none".to_owned(), |version| version.to_string()),
            purpose(api)
        )
        .unwrap();
    }
    page.push_str(NOTES);
    page
}

const NOTES: &str = "\n## What is particular\n\n\
    - **Produce** is answered after the records are synced, with acks=1 as with acks=all. With acks=0 there is no \
      answer; an error closes the connection.\n\
    - **Fetch** sessions (KIP-227) are declined, which the protocol allows: the session id in the answer is 0, and \
      a client names all its partitions each time.\n\
    - **Produce** to a topic with an ingest plugin is answered INVALID_RECORD where the plugin refuses the batch, with \
      the records that it names (KIP-467), and NOT_ENOUGH_REPLICAS where it is not ready, overloaded or too slow: \
      nothing is stored then, and clients send the batch again. Of a batch that is stored, each record that was sent \
      has its offset, also where the plugin has dropped it.\n\
    - **Views** are listed like topics, with the partitions, leaders and epochs of their source, under names and ids of \
      their own. Fetch, ListOffsets and OffsetForLeaderEpoch of a view are answered from its source; a fetch gets \
      OFFSET_NOT_AVAILABLE as long as the view's plugin is not ready, and INVALID_RECORD where it has failed. Produce, \
      DeleteTopics, DeleteRecords, CreatePartitions and changes of configurations are refused with \
      INVALID_TOPIC_EXCEPTION. A topic that has views can't be deleted (POLICY_VIOLATION).\n\
    - **Fetch** of batches of which no record is left is answered with a transaction marker at their last offset, \
      which every client passes over: librdkafka takes batches without records for an answer that was cut off.\n\
    - **OffsetForLeaderEpoch** is served in version 2 for librdkafka, which asks for no other.\n\
    - **FindCoordinator** answers for groups; there are no transactions and no share groups.\n\
    - Record batches have magic 2. Compressed ones are not opened by the broker, unless the topic is compacted and \
      each record needs a key: what is checked of them is the header and the CRC-32C.\n";

/// What the API's file says of itself: the sentence at its top, after the API's name.
fn purpose(api: ApiKey) -> String {
    let mut file = String::new();
    for (index, letter) in api.name().char_indices() {
        if letter.is_uppercase() && index > 0 {
            file.push('_');
        }
        file.push(letter.to_ascii_lowercase());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/api/{file}.rs"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let purpose = paragraph.strip_prefix(api.name()).and_then(|rest| rest.strip_prefix(": "));
    purpose.unwrap_or_else(|| panic!("{} does not begin with the API's name", path.display())).to_owned()
}

#[test]
fn the_page_matches_the_apis() {
    check_page("PROTOCOL.md", &page());
}
