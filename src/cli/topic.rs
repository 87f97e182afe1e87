//! `millstream topic`: create, list, describe and delete topics of any Kafka-compatible cluster.

mod create;
mod delete;
mod describe;
mod list;

use clap::Subcommand;
use rdkafka::admin::AdminOptions;

use super::connection::REQUEST_TIMEOUT;
use super::failure::Failure;
use super::output::Output;

pub(crate) use self::create::{NewTopic, create_topic};
pub(crate) use self::delete::delete_topic;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create topics
    Create(create::CreateArgs),
    /// List the topics
    List(list::ListArgs),
    /// Show partitions, leaders, offsets and the settings that differ from the defaults
    Describe(describe::DescribeArgs),
    /// Delete topics and their records
    Delete(delete::DeleteArgs),
}

pub(crate) fn run(command: TopicCommand, output: &mut Output) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(args) => create::run(&args, output),
        TopicCommand::List(args) => list::run(&args, output),
        TopicCommand::Describe(args) => describe::run(&args, output),
        TopicCommand::Delete(args) => delete::run(&args, output),
    }
}

/// The broker answers when the operation is done, not when it was begun.
pub(crate) fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT))
}

/// Waits for an admin operation; the client's own thread completes it.
pub(crate) fn wait<T>(operation: impl Future<Output = T>) -> T {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::{self, Thread};

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut operation = std::pin::pin!(operation);
    loop {
        match operation.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // A wake-up between the poll and this is kept: `park` then returns at once.
            Poll::Pending => thread::park(),
        }
    }
}
