//! `millstream up`: runs a node until it is told to stop.

use std::{fs, io};

use millstream_broker::config::{BrokerConfig, Sources};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::node_args::UpArgs;
use super::output::{self, Output};
use crate::node::Node;

/// Threads that serve sockets. Disks, plugins and long reads have threads of their own.
const WORKER_THREADS_MAX: usize = 8;
/// Threads for reads from disk and other work that blocks.
const BLOCKING_THREADS_MAX: usize = 32;

pub(crate) fn run(args: &UpArgs, output: &mut Output) -> Result<(), Failure> {
    let config = config(args)?;
    runtime()?.block_on(async {
        // Before it says that it is ready: whoever reads that may stop it at once.
        let mut ends = Ends::new().map_err(Failure::Signals)?;
        let node = Node::start(config).await.map_err(|error| Failure::Node(chain(&error)))?;
        let (kafka, admin) = (node.kafka_address(), node.admin_address());
        if output.json() {
            output.document(&serde_json::json!({
                "ready": true, "kafka": kafka.to_string(), "admin": admin.to_string(),
            }))?;
        } else {
            output.line(format_args!("ready: Kafka clients on {kafka}, admin on http://{admin}"))?;
        }
        output.flush()?;
        let stopped = ends.wait(&node).await;
        node.stop().await;
        stopped
    })
}

/// The tokio runtime that a node lives on.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKER_THREADS_MAX))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("millstream")
        .enable_all()
        .build()
        .map_err(|error| Failure::Node(format!("can't start threads: {error}")))
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors say what their cause says.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What ends a node. A signal that comes while it starts counts as well.
struct Ends {
    interrupted: Signal,
    terminated: Signal,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (interrupted, terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupted, terminated })
    }

    /// Until a signal, which is the clean end, or until the node can't go on.
    async fn wait(&mut self, node: &Node) -> Result<(), Failure> {
        tokio::select! {
            _ = self.interrupted.recv() => Ok(()),
            _ = self.terminated.recv() => Ok(()),
            why = node.state.broker.failed() => Err(Failure::Node(format!("the node can't go on: {why}"))),
        }
    }
}

fn config(args: &UpArgs) -> Result<BrokerConfig, Failure> {
    let text = match &args.config {
        Some(path) => {
            let read = fs::read_to_string(path);
            Some((path, read.map_err(|source| Failure::Input { path: path.clone(), source })?))
        }
        None => None,
    };
    let mut flags = Vec::new();
    if let Some(dir) = &args.data_dir {
        flags.push(("data.dir", dir.display().to_string()));
    }
    if let Some(listen) = &args.listen {
        flags.push(("listeners", listen.clone()));
    }
    if let Some(admin) = &args.admin {
        flags.push(("admin.listener", admin.clone()));
    }
    let sources = Sources {
        file: text.as_ref().map(|(path, text)| (path.as_path(), text.as_str())),
        environment: std::env::vars().collect(),
        flags,
    };
    let config = BrokerConfig::load(&sources).map_err(|error| Failure::Usage(chain(&error)))?;
    if config.listeners.len() > 1 {
        output::remark("warning: one listener is served, the first of listeners");
    }
    Ok(config)
}
