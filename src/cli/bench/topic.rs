//! The topic of a bench: made for it and deleted after it, or one that is there.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::TopicArgs;
use crate::cli::cluster::{Cluster, TopicPartition};
use crate::cli::failure::Failure;
use crate::cli::output::remark;
use crate::cli::topic::{NewTopic, create_topic, delete_topic};

pub(super) struct BenchTopic {
    pub(super) name: String,
    pub(super) partitions: Vec<TopicPartition>,
    /// It was made for this bench, and is empty.
    pub(super) created: bool,
}

/// Runs `bench` with the topic that `args` ask for, and cleans up whatever came of it.
pub(super) fn with_topic<T>(
    args: &TopicArgs,
    bench: impl FnOnce(&Cluster, &BenchTopic) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let cluster = Cluster::connect(&args.connection)?;
    let name = args.topic.clone().unwrap_or_else(unique_name);
    let existing = if args.topic.is_some() { cluster.find_topic(&name)? } else { None };
    if let Some(topic) = existing {
        let partitions = topic.topic_partitions().collect();
        return bench(&cluster, &BenchTopic { name, partitions, created: false });
    }
    let admin = args.connection.admin()?;
    let shape = NewTopic {
        partitions: Some(args.partitions),
        replication_factor: args.replication_factor,
        config: args.config.clone(),
    };
    create_topic(&admin, &name, &shape)?;
    let partitions = (0..args.partitions).map(|partition| (name.clone(), partition)).collect();
    let topic = BenchTopic { name, partitions, created: true };
    let outcome =
        cluster.wait_for_leaders(&topic.name, topic.partitions.len()).and_then(|()| bench(&cluster, &topic));
    if args.keep {
        return outcome;
    }
    match (delete_topic(&admin, &topic.name), outcome) {
        // Why the bench failed matters more than what was left behind.
        (Err(failure), Err(first)) => {
            remark(format_args!("{failure}"));
            Err(first)
        }
        (Err(failure), Ok(_)) => Err(failure),
        (Ok(()), outcome) => outcome,
    }
}

fn unique_name() -> String {
    // The hasher's keys are random, which is all that a name needs.
    format!("millstream-bench-{:016x}", RandomState::new().build_hasher().finish())
}
