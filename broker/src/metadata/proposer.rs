//! The task that turns many commands into few log entries.
//!
//! Raft waits for the disk once per entry, so what arrives during one sync is the next entry. No linger is added.
//!
//! Owner: `Metadata`, which spawns it on its tracker. Ends when its token is cancelled or all handles are gone.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use openraft::ServerState;
use openraft::error::{ClientWriteError, RaftError};

use super::command::{Command, CommandBatch, Rejection, Response};
use super::raft::Raft;

/// Commands that wait; beyond it, proposing waits.
pub(super) const QUEUE_COMMANDS_MAX: usize = 1024;
/// Commands of one entry.
const BATCH_COMMANDS_MAX: usize = 512;
/// Encoded bytes of one entry's commands, unless a single one is larger.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Encoded bytes of one command: the largest document fits.
pub(super) const COMMAND_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Why Raft did not take a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    #[error("another broker is the controller")]
    NotController { leader: Option<u64> },
    #[error("raft has stopped: {0}")]
    Stopped(String),
    #[error("another broker became the controller meanwhile")]
    Unknown,
}

/// What a command came to, and the index of its entry.
pub(super) type Outcome = Result<(u64, Result<Response, Rejection>), WriteError>;

#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Outcome>,
}

pub(super) async fn run(raft: Raft, mut queue: mpsc::Receiver<Proposal>, stop: CancellationToken) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(proposal) => proposal,
            None => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                next = queue.recv() => match next {
                    Some(proposal) => proposal,
                    None => return,
                },
            },
        };
        let mut bytes = first.bytes;
        let mut commands = vec![first.command];
        let mut answers = vec![first.answer];
        while commands.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.bytes;
            if bytes > BATCH_BYTES_MAX {
                held = Some(next);
                break;
            }
            commands.push(next.command);
            answers.push(next.answer);
        }
        write(&raft, commands, answers).await;
    }
}

async fn write(raft: &Raft, commands: Vec<Command>, answers: Vec<oneshot::Sender<Outcome>>) {
    let written = tokio::select! {
        biased;
        written = raft.client_write(CommandBatch(commands)) => written,
        () = deposed(raft) => {
            // Whoever leads now may have it, or not.
            for answer in answers {
                let _ = answer.send(Err(WriteError::Unknown));
            }
            return;
        }
    };
    // A proposer that no longer waits for its answer is no error.
    match written {
        Ok(written) => {
            assert_eq!(written.data.0.len(), answers.len(), "each command has its response");
            for (answer, response) in answers.into_iter().zip(written.data.0) {
                let _ = answer.send(Ok((written.log_id.index, response)));
            }
        }
        Err(error) => {
            let error = match error {
                RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                    WriteError::NotController { leader: to.leader_id }
                }
                other => WriteError::Stopped(other.to_string()),
            };
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Waits until this node leads no more, if it does. Who does not is told so by `client_write`; who did, and could not reach the
/// others, would wait there until they reach it.
async fn deposed(raft: &Raft) {
    let mut metrics = raft.metrics();
    if metrics.borrow().state != ServerState::Leader {
        return std::future::pending().await;
    }
    // The end of Raft is told by `client_write`.
    if metrics.wait_for(|now| now.state != ServerState::Leader).await.is_err() {
        std::future::pending().await
    }
}
