//! Raft among brokers: its messages over connections of [`peer`](crate::peer), in both directions.

use std::future::Future;
use std::sync::Arc;

use openraft::BasicNode;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::raft::{Raft, TypeConfig};
use crate::codec::{self, Encoded};
use crate::ids::BrokerId;
use crate::peer::{Call, Connect, Connection, Hello, PeerError};

/// A snapshot that came in the wrong order is sent anew: Raft has to see which.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotAnswer(Result<InstallSnapshotResponse<u64>, InstallSnapshotError>);

impl Encoded for AppendEntriesRequest<TypeConfig> {
    const KIND: u8 = 10;
}

impl Encoded for AppendEntriesResponse<u64> {
    const KIND: u8 = 11;
}

impl Encoded for VoteRequest<u64> {
    const KIND: u8 = 12;
}

impl Encoded for VoteResponse<u64> {
    const KIND: u8 = 13;
}

impl Encoded for InstallSnapshotRequest<TypeConfig> {
    const KIND: u8 = 14;
}

impl Encoded for SnapshotAnswer {
    const KIND: u8 = 15;
}

impl Call for AppendEntriesRequest<TypeConfig> {
    const API_KEY: i16 = 10_001;
    type Response = AppendEntriesResponse<u64>;
}

impl Call for VoteRequest<u64> {
    const API_KEY: i16 = 10_002;
    type Response = VoteResponse<u64>;
}

impl Call for InstallSnapshotRequest<TypeConfig> {
    const API_KEY: i16 = 10_003;
    type Response = SnapshotAnswer;
}

/// Where brokers are, as this one knows it.
pub(crate) trait AddressBook: Send + Sync + 'static {
    /// None if nothing newer is known than what Raft's membership says.
    fn address_of(&self, broker: BrokerId) -> Option<String>;
}

/// Makes the connections of Raft.
#[derive(Clone)]
pub(crate) struct PeerNetwork {
    connector: Arc<dyn Connect>,
    addresses: Arc<dyn AddressBook>,
    /// Without whom it is for.
    hello: Hello,
}

impl PeerNetwork {
    pub(crate) fn new(connector: Arc<dyn Connect>, addresses: Arc<dyn AddressBook>, hello: Hello) -> Self {
        Self { connector, addresses, hello }
    }
}

/// One broker, as Raft reaches it. Opened when it is needed, and anew after an error.
pub(crate) struct RaftPeer {
    network: PeerNetwork,
    target: u64,
    address: String,
    connection: Option<Connection>,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetwork {
    type Network = RaftPeer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> RaftPeer {
        RaftPeer { network: self.clone(), target, address: node.addr.clone(), connection: None }
    }
}

type Answer<T, E> = Result<T, RPCError<u64, BasicNode, E>>;

impl RaftPeer {
    async fn call<C: Call, E: std::error::Error>(
        &mut self,
        call: C,
        action: RPCTypes,
        option: RPCOption,
    ) -> Answer<C::Response, E> {
        let time_max = option.hard_ttl();
        match tokio::time::timeout(time_max, self.exchange(&call)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error @ PeerError::Unreachable { .. })) => Err(Unreachable::new(&error).into()),
            Ok(Err(error)) => Err(NetworkError::new(&error).into()),
            Err(_) => Err(Timeout {
                action,
                id: u64::try_from(self.network.hello.from.id.0).unwrap_or_default(),
                target: self.target,
                timeout: time_max,
            }
            .into()),
        }
    }

    async fn exchange<C: Call>(&mut self, call: &C) -> Result<C::Response, PeerError> {
        // A call that was left in the middle leaves an answer behind.
        let usable = self.connection.take().filter(Connection::is_usable);
        let connection = match usable {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        self.connection.insert(connection).call(call).await
    }

    async fn connect(&self) -> Result<Connection, PeerError> {
        let PeerNetwork { connector, addresses, hello } = &self.network;
        let target = i32::try_from(self.target).ok().map(BrokerId);
        let address = target.and_then(|target| addresses.address_of(target));
        let address = address.as_deref().unwrap_or(&self.address);
        Connection::open(connector, address, &Hello { to: target, ..hello.clone() }).await
    }
}

impl RaftNetwork<TypeConfig> for RaftPeer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>, RaftError<u64>> {
        self.call(request, RPCTypes::AppendEntries, option).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        let SnapshotAnswer(answer) = self.call(request, RPCTypes::InstallSnapshot, option).await?;
        answer
            .map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, RaftError::APIError(error))))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Answer<VoteResponse<u64>, RaftError<u64>> {
        self.call(request, RPCTypes::Vote, option).await
    }
}

/// Answers Raft's requests; none if the request is not one of Raft's.
pub(super) async fn answer_raft(raft: &Raft, api_key: i16, body: &[u8]) -> Option<Result<Vec<u8>, String>> {
    type Append = AppendEntriesRequest<TypeConfig>;
    type Install = InstallSnapshotRequest<TypeConfig>;
    Some(match api_key {
        Append::API_KEY => answered(body, |request: Append| raft.append_entries(request)).await,
        VoteRequest::<u64>::API_KEY => answered(body, |request: VoteRequest<u64>| raft.vote(request)).await,
        Install::API_KEY => {
            answered(body, async |request: Install| match raft.install_snapshot(request).await {
                Ok(response) => Ok(SnapshotAnswer(Ok(response))),
                Err(RaftError::APIError(error)) => Ok(SnapshotAnswer(Err(error))),
                Err(fatal @ RaftError::Fatal(_)) => Err(fatal),
            })
            .await
        }
        _ => return None,
    })
}

async fn answered<C, F, E>(body: &[u8], answer: impl FnOnce(C) -> F) -> Result<Vec<u8>, String>
where
    C: Call,
    F: Future<Output = Result<C::Response, E>>,
    E: std::fmt::Display,
{
    let request = codec::decode(body).map_err(|error| format!("the request can't be read: {error}"))?;
    let response = answer(request).await.map_err(|error| error.to_string())?;
    codec::encode(&response).map_err(|error| error.to_string())
}
