//! The way to other brokers, as an argument.
//!
//! `Metadata::open` takes any of openraft's network factories. A cluster of one has no peers to reach.

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::raft::TypeConfig;

/// The network of a cluster of one.
#[derive(Debug, Clone, Copy)]
pub struct NoPeers;

/// A peer that can't be reached, because there is none.
#[derive(Debug, Clone, Copy)]
pub struct NoPeer {
    target: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("broker {0} can't be reached: this cluster has one broker")]
struct SingleBroker(u64);

impl NoPeer {
    fn unreachable(self) -> Unreachable {
        Unreachable::new(&SingleBroker(self.target))
    }
}

type Refused<T, E> = Result<T, RPCError<u64, BasicNode, E>>;

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> NoPeer {
        NoPeer { target }
    }
}

impl RaftNetwork<TypeConfig> for NoPeer {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Refused<AppendEntriesResponse<u64>, RaftError<u64>> {
        Err(self.unreachable().into())
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<TypeConfig>,
        _: RPCOption,
    ) -> Refused<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<u64>,
        _: RPCOption,
    ) -> Refused<VoteResponse<u64>, RaftError<u64>> {
        Err(self.unreachable().into())
    }
}
