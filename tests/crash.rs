//! A node that is killed at random moments under load, and started again, keeps what it acknowledged: every record at
//! its offset, once, and every committed offset of a group.
//!
//! `MILLSTREAM_CRASH_ROUNDS` sets the number of kills (200 for a nightly run), `MILLSTREAM_CRASH_SEED` repeats a run's
//! choices; the moments are the machine's as well.

#![expect(clippy::print_stdout, reason = "a failed run is repeated with the seed that it printed")]

#[path = "support/dice.rs"]
mod dice;
#[path = "support/node.rs"]
mod node;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use self::dice::{Dice, seed};
use self::node::{Node, PATIENCE, Settings, StoppedNode, run_to_end, until};

const ROUNDS: u64 = 10;
const PARTITIONS: usize = 6;
const GROUP: &str = "crash";
/// Records under way at a time, so that a kill always hits some.
const IN_FLIGHT_MAX: u64 = 1000;
/// What a kill waits for at most.
const ACKNOWLEDGED_MAX: u64 = 2000;
/// A node that starts is killed within so many milliseconds, which may be before or after it is ready.
const STARTING_MS_MAX: u64 = 500;
/// A kill that comes while a node starts, on average, in one of so many rounds.
const STARTING_ONE_IN: u64 = 3;
/// The smallest there is, so that segments are sealed and opened during the test.
const SEGMENT_BYTES: &str = "16777216";

/// A topic, and the producer that fills it.
struct Lane {
    topic: &'static str,
    number: u64,
    settings: &'static [(&'static str, &'static str)],
    /// Whether a retry is recognised, so that nothing is there twice and everything in order.
    idempotent: bool,
}

const LANES: [Lane; 2] = [
    Lane {
        topic: "crash-idempotent",
        number: 0,
        settings: &[("enable.idempotence", "true"), ("acks", "all")],
        idempotent: true,
    },
    Lane {
        topic: "crash-acks-1",
        number: 1,
        settings: &[("enable.idempotence", "false"), ("acks", "1"), ("compression.type", "zstd")],
        idempotent: false,
    },
];

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds =
        std::env::var("MILLSTREAM_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let seed = seed();
    println!("{rounds} rounds, MILLSTREAM_CRASH_SEED={seed}");
    let settings = Settings::default()
        .with("num.partitions", &PARTITIONS.to_string())
        .with("log.dir.segment.bytes", SEGMENT_BYTES);
    let node = Node::start_with(settings);
    let bootstrap = node.bootstrap();
    let journals = LANES.each_ref().map(|_| Arc::new(Journal::default()));
    let node = thread::scope(|scope| {
        let mut node = node;
        for (lane, journal) in LANES.iter().zip(&journals) {
            let bootstrap = &bootstrap;
            scope.spawn(move || lane.produce(bootstrap, journal, seed));
        }
        let finish = Finish(&journals);
        let mut dice = Dice::new(seed);
        for round in 0..rounds {
            node = kill_and_start(node, &journals, round, &mut dice);
        }
        // Their producers send what is under way, and end.
        drop(finish);
        node
    });
    for (lane, journal) in LANES.iter().zip(&journals) {
        lane.check(&bootstrap, &journal.state(), seed);
    }
    let stopped = node.stop();
    assert!(stopped.status.success(), "{}", stopped.stderr());
    check_storage(&stopped);
}

/// One round: offsets are committed, records acknowledged, the node killed, and the offsets still there.
fn kill_and_start(node: Node, journals: &[Arc<Journal>; 2], round: u64, dice: &mut Dice) -> Node {
    let bootstrap = node.bootstrap();
    let committed = i64::try_from(round).expect("rounds are few") + 1;
    commit(&bootstrap, committed);
    let journal = &journals[usize::try_from(dice.below(2)).expect("it is 0 or 1")];
    let acknowledged = journal.state().acknowledged.len()
        + usize::try_from(dice.below(ACKNOWLEDGED_MAX)).expect("it is small");
    let waited = journal.wait_until(PATIENCE, |state| state.acknowledged.len() >= acknowledged);
    assert!(waited, "round {round}: the node acknowledges no more; it said:\n{}", node.stderr());
    let (kafka, admin) = (node.kafka().to_string(), node.admin().to_string());
    let mut stopped = node.kill();
    while dice.below(STARTING_ONE_IN) == 0 {
        let mut command = node::command(&stopped.data_dir(), &kafka, &admin);
        let mut starting = command
            .env("MILLSTREAM_CONFIG_NUM_PARTITIONS", PARTITIONS.to_string())
            .env("MILLSTREAM_CONFIG_LOG_DIR_SEGMENT_BYTES", SEGMENT_BYTES)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the node's binary runs");
        // The moment is what is random here: nothing is waited for.
        journal.wait_until(Duration::from_millis(dice.below(STARTING_MS_MAX)), |_| false);
        let ended = starting.try_wait().expect("a child can be asked");
        assert_eq!(ended, None, "round {round}: the node ended by itself");
        starting.kill().expect("the node runs");
        starting.wait().expect("a child can be waited for");
    }
    stopped = check_panics(stopped);
    let node = stopped.start();
    assert_eq!(committed_offset(&bootstrap), Offset::Offset(committed), "round {round}");
    node
}

fn check_panics(stopped: StoppedNode) -> StoppedNode {
    let said = stopped.stderr();
    assert!(!said.contains("panicked"), "{said}");
    stopped
}

/// What became of a lane's records, so far.
#[derive(Default)]
struct State {
    sent: u64,
    acknowledged: Vec<Acknowledged>,
    failed: Vec<String>,
    finishing: bool,
}

/// A record that the node has answered for.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    number: u64,
    partition: i32,
    /// Negative: the node knows the record, but no longer where it is.
    offset: i64,
}

#[derive(Default)]
struct Journal {
    state: Mutex<State>,
    changed: Condvar,
}

impl Journal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this lock")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `condition` holds; `false` where the time was over before.
    fn wait_until(&self, time: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !condition(state));
        !waited.expect("no test panics while it holds this lock").1.timed_out()
    }
}

/// Lets the producers end, also where the test has failed.
struct Finish<'a>(&'a [Arc<Journal>; 2]);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|journal| journal.change(|state| state.finishing = true));
    }
}

/// Writes down what the node acknowledges.
struct Reports(Arc<Journal>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        self.0.change(|state| match delivered {
            Ok(record) => state.acknowledged.push(Acknowledged {
                number: number_of(record.payload().expect("it was sent with one")),
                partition: record.partition(),
                offset: record.offset(),
            }),
            Err((error, _)) => state.failed.push(error.to_string()),
        });
    }
}

impl Lane {
    /// Sends records until it is told to finish, and then until all are answered for.
    fn produce(&self, bootstrap: &str, journal: &Arc<Journal>, seed: u64) {
        let mut config = client(bootstrap);
        config.set("message.timeout.ms", "0").set("batch.num.messages", "100").set("linger.ms", "1");
        for (key, value) in self.settings {
            config.set(*key, *value);
        }
        let reports = Reports(Arc::clone(journal));
        let producer: ThreadedProducer<Reports> =
            config.create_with_context(reports).expect("valid settings");
        for number in 0.. {
            let under_way =
                |state: &State| state.sent - state.acknowledged.len() as u64 - state.failed.len() as u64;
            let ready = |state: &State| state.finishing || under_way(state) < IN_FLIGHT_MAX;
            assert!(journal.wait_until(2 * PATIENCE, ready), "{}: the node does not answer", self.topic);
            if journal.state().finishing {
                break;
            }
            journal.change(|state| state.sent += 1);
            let payload = self.payload(seed, number);
            let partition = i32::try_from(partition_of(number)).expect("there are few");
            let record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(self.topic).partition(partition).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).expect("the queue has room");
        }
        producer.flush(PATIENCE).expect("everything is answered for");
    }

    /// What the record with this number holds, of which no other has the same.
    fn payload(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut dice = Dice::new(seed ^ self.number.rotate_left(32) ^ number);
        let words = dice.below(128) + if dice.below(500) == 0 { 8000 } else { 0 };
        let random = (0..words).flat_map(|_| dice.next().to_be_bytes());
        number.to_be_bytes().into_iter().chain(random).collect()
    }

    /// Reads the whole topic, and compares it with what was acknowledged.
    fn check(&self, bootstrap: &str, state: &State, seed: u64) {
        assert_eq!(state.failed, [""; 0], "{}", self.topic);
        assert_eq!(
            state.acknowledged.len() as u64,
            state.sent,
            "{}: not everything was acknowledged",
            self.topic
        );
        let stored = self.read(bootstrap, seed);
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        stored.iter().flatten().for_each(|number| *places.entry(*number).or_default() += 1);
        for acknowledged in &state.acknowledged {
            let Acknowledged { number, partition, offset } = *acknowledged;
            assert!(places.contains_key(&number), "{}: lost: {acknowledged:?}", self.topic);
            if let Ok(offset) = usize::try_from(offset) {
                let found = stored[usize::try_from(partition).expect("a valid partition")].get(offset);
                assert_eq!(found, Some(&number), "{}: {acknowledged:?}", self.topic);
            }
        }
        assert_eq!(places.len() as u64, state.sent, "{}: there is what nobody sent", self.topic);
        let count: usize = stored.iter().map(Vec::len).sum();
        println!("{}: {} acknowledged, {count} stored", self.topic, state.acknowledged.len());
        if self.idempotent {
            assert_eq!(count as u64, state.sent, "{}: some are there twice", self.topic);
            for (partition, numbers) in stored.iter().enumerate() {
                assert!(numbers.is_sorted(), "{}-{partition} is out of order", self.topic);
            }
        }
    }

    /// The numbers of the stored records, by partition and offset.
    fn read(&self, bootstrap: &str, seed: u64) -> Vec<Vec<u64>> {
        let consumer: BaseConsumer =
            client(bootstrap).set("group.id", "reader").create().expect("valid settings");
        let mut stored = vec![Vec::new(); PARTITIONS];
        let mut ends = Vec::new();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS).expect("there are few") {
            let (start, end) =
                consumer.fetch_watermarks(self.topic, partition, PATIENCE).expect("the node answers");
            assert_eq!(start, 0, "{}-{partition}", self.topic);
            ends.push(usize::try_from(end).expect("offsets begin with 0"));
            assignment
                .add_partition_offset(self.topic, partition, Offset::Beginning)
                .expect("a valid offset");
        }
        consumer.assign(&assignment).expect("a valid assignment");
        while stored.iter().map(Vec::len).ne(ends.iter().copied()) {
            let record = consumer.poll(PATIENCE).expect("there is more").expect("it can be read");
            let partition = usize::try_from(record.partition()).expect("a valid partition");
            assert_eq!(record.offset(), stored[partition].len() as i64, "{}-{partition}", self.topic);
            let payload = record.payload().expect("every record has one");
            let number = number_of(payload);
            assert_eq!(payload, self.payload(seed, number), "{}-{partition}", self.topic);
            assert_eq!(partition_of(number), partition, "{}", self.topic);
            stored[partition].push(number);
        }
        stored
    }
}

fn number_of(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"))
}

fn partition_of(number: u64) -> usize {
    usize::try_from(number).expect("a number of records") % PARTITIONS
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("enable.auto.commit", "false");
    // The node is back within a second; asking seldom would only make the test longer.
    config
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "10");
    config
}

fn committed_list(offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(LANES[0].topic, 0, offset).expect("a valid offset");
    list
}

fn commit(bootstrap: &str, offset: i64) {
    let consumer: BaseConsumer = client(bootstrap).set("group.id", GROUP).create().expect("valid settings");
    let list = committed_list(Offset::Offset(offset));
    let mut last = Ok(());
    // A coordinator that has just started may still be loading its groups.
    let committed = until(|| {
        last = consumer.commit(&list, CommitMode::Sync);
        last.is_ok()
    });
    assert!(committed, "{last:?}");
}

fn committed_offset(bootstrap: &str) -> Offset {
    let consumer: BaseConsumer = client(bootstrap).set("group.id", GROUP).create().expect("valid settings");
    let mut found = None;
    until(|| {
        found = consumer.committed_offsets(committed_list(Offset::Invalid), PATIENCE).ok();
        found.is_some()
    });
    let found = found.expect("the coordinator answers");
    found.elements()[0].offset()
}

/// The tool for stopped nodes finds nothing wrong.
fn check_storage(stopped: &StoppedNode) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let verified = run_to_end(command.args(["storage", "verify"]).arg(stopped.data_dir()));
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);
}
