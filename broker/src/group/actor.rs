//! The task that owns one partition's groups: it feeds the core what happens and does what the core wants.
//!
//! Owner: [`GroupCoordinator`](super::GroupCoordinator), which starts it with `load` and stops it with `unload`.
//! Channels: one bounded inbox. A full inbox makes connections wait, no other partition is held up. What waits
//! for an answer is bounded by the connections: each has one group request under way at a time.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::offsets_log::{LogChunk, OffsetsLog, ReadError};
use super::{AppendError, Command, Event, GroupRecord, Now, Reply, Request, Shard, Token, record_codec};
use crate::clock::SharedClock;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};

/// Requests that wait for the actor to look at them.
pub(super) const INBOX_MAX: usize = 1_024;

pub(super) enum Message {
    Request(Request, oneshot::Sender<Reply>),
    TopicsDeleted(Arc<[(TopicName, TopicId)]>),
}

pub(super) struct Actor {
    pub(super) partition: PartitionIndex,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) shard: Shard,
    pub(super) log: Arc<dyn OffsetsLog>,
    pub(super) clock: SharedClock,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) stop: CancellationToken,
    pub(super) answers: Answers,
}

/// Who waits for which token.
#[derive(Default)]
pub(super) struct Answers {
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: u64,
}

impl Answers {
    fn expect(&mut self, answer: oneshot::Sender<Reply>) -> Token {
        let number = self.next_token;
        self.next_token += 1;
        self.waiting.insert(Token(number), answer);
        Token(number)
    }

    fn give(&mut self, token: &Token, reply: Reply) {
        let answer = self.waiting.remove(token).expect("the core answers each token once");
        // A client that has gone does not hear its answer; the core's timers take care of the member.
        let _gone = answer.send(reply);
    }
}

type Loading = Option<BoxFuture<'static, Result<LogChunk, ReadError>>>;
type Appending = Option<BoxFuture<'static, Result<(), AppendError>>>;

impl Actor {
    pub(super) async fn run(mut self) {
        let mut loading: Loading = Some(self.log.read(self.partition, Offset::ZERO));
        let mut appending: Appending = None;
        let stop = self.stop.clone();
        loop {
            let deadline = self.shard.next_deadline();
            let wait = deadline.map(|deadline| deadline.saturating_sub(self.clock.monotonic()));
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                result = run_if_some(&mut appending) => {
                    appending = None;
                    Event::Appended(result)
                }
                chunk = run_if_some(&mut loading) => {
                    match self.loaded(chunk, &mut loading) {
                        Some(event) => event,
                        None => break,
                    }
                }
                () = sleep_if_some(wait) => Event::Tick,
                message = self.inbox.recv() => match message {
                    Some(Message::Request(request, answer)) => {
                        Event::Request(self.answers.expect(answer), request)
                    }
                    Some(Message::TopicsDeleted(topics)) => Event::TopicsDeleted(topics.to_vec()),
                    None => break,
                },
            };
            self.step(event, &mut appending);
        }
        self.unload();
    }

    fn step(&mut self, event: Event, appending: &mut Appending) {
        let now = self.now();
        for command in self.shard.step(now, event) {
            match command {
                Command::Reply(token, reply) => self.answers.give(&token, reply),
                Command::Append(records) => {
                    let records = records.iter().map(record_codec::encode).collect();
                    *appending = Some(self.log.append(self.partition, self.leader_epoch, records));
                }
            }
        }
    }

    /// The event of a chunk that was read, or `None` when loading has failed.
    fn loaded(&mut self, chunk: Result<LogChunk, ReadError>, loading: &mut Loading) -> Option<Event> {
        *loading = None;
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(partition = %self.partition, error, "can't load groups");
                return None;
            }
        };
        let records: Vec<GroupRecord> =
            chunk.records.iter().filter_map(|record| self.decode(record)).collect();
        match chunk.next {
            Some(next) => {
                *loading = Some(self.log.read(self.partition, next));
                Some(Event::Replay(records))
            }
            None => {
                let now = self.now();
                let commands = self.shard.step(now, Event::Replay(records));
                assert!(commands.is_empty(), "a replay asks for nothing");
                Some(Event::Loaded)
            }
        }
    }

    /// A record that can't be read belongs to a feature that is not here, or is damaged: the groups that can
    /// be read are worth more than stopping at it.
    fn decode(&self, record: &super::LogRecord) -> Option<GroupRecord> {
        match record_codec::decode(record) {
            Ok(record) => record,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(partition = %self.partition, error, "skipping record of the offsets topic");
                None
            }
        }
    }

    /// Answers everyone: those who wait, and those who are in the inbox.
    fn unload(mut self) {
        let mut appending = None;
        self.step(Event::Unload, &mut appending);
        self.inbox.close();
        while let Ok(message) = self.inbox.try_recv() {
            if let Message::Request(request, answer) = message {
                let token = self.answers.expect(answer);
                self.step(Event::Request(token, request), &mut appending);
            }
        }
        assert!(self.answers.waiting.is_empty(), "an unloaded shard has answered everyone");
    }

    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall_ms: self.clock.wall_ms() }
    }
}

async fn run_if_some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn sleep_if_some(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => pending().await,
    }
}
