//! Brokers on loopback: they join, agree, and go on without one of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::super::snapshot;
use super::super::*;
use super::put;
use crate::clock::SystemClock;
use crate::ids::{BrokerId, TopicName};
use crate::peer::{BoxedStream, Connect, Connection, Hello, Member, TcpConnector, serve};

/// Elections take seconds.
const PATIENCE: Duration = Duration::from_secs(30);

struct Broker {
    metadata: Metadata,
    address: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Broker {
    async fn try_start(id: i32, dir: &Path, join: &[&Self]) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = MetadataConfig {
            dir: dir.to_owned(),
            node_id: BrokerId(id),
            address: address.clone(),
            cluster_id: None,
            join: join.iter().map(|broker| broker.address.clone()).collect(),
        };
        let opened = Metadata::open(config, SystemClock::shared(), Arc::new(TcpConnector)).await;
        let metadata = opened.map_err(|error| error.to_string())?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let service = Arc::new(metadata.service());
        let (stopped, connections) = (stop.clone(), tasks.clone());
        tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (service, stopped) = (Arc::clone(&service), stopped.clone());
                let stream: BoxedStream = Box::new(stream);
                connections.spawn(async move { stopped.run_until_cancelled(serve(stream, service)).await });
            }
        });
        let broker = Self { metadata, address, stop, tasks };
        match broker.metadata.become_member().await {
            Ok(()) => Ok(broker),
            Err(error) => {
                broker.stop().await;
                Err(error.to_string())
            }
        }
    }

    async fn start(id: i32, dir: &TempDir, join: &[&Self]) -> Self {
        Self::try_start(id, dir.path(), join).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.metadata.shutdown().await;
    }

    fn voters(&self) -> BTreeSet<u64> {
        let metrics = self.metadata.raft().metrics().borrow().clone();
        metrics.membership_config.membership().voter_ids().collect()
    }

    fn bytes(&self) -> Vec<u8> {
        snapshot::encode(&self.metadata.image()).unwrap()
    }

    async fn put(&self, name: &str) {
        // While there is an election a command finds no controller, and where one ends nobody knows what it did.
        let put = async {
            while let Err(error) = self.metadata.put_document("pipeline", name, b"text".to_vec(), None).await
            {
                assert!(
                    matches!(error, ProposeError::NotController { .. } | ProposeError::Unknown(_)),
                    "{error:?}"
                );
            }
        };
        tokio::time::timeout(PATIENCE, put).await.expect("there is a controller in time");
    }

    fn has(&self, name: &str) -> bool {
        self.metadata.image().document("pipeline", name).is_some()
    }
}

async fn until(condition: impl Fn() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.expect("it comes to that in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_agree_and_go_on_without_one() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let first = Broker::start(1, &dirs[0], &[]).await;
    // The log begins behind these, so that only a snapshot can tell of them.
    for n in 0..1300 {
        let (name, bytes) = (format!("p{}", n % 50), vec![n as u8; 100]);
        first.metadata.put_document("pipeline", &name, bytes, None).await.unwrap();
    }
    first.metadata.wait_for_purge(700).await;
    let second = Broker::start(2, &dirs[1], &[&first]).await;
    assert_eq!(second.metadata.image().cluster_id(), first.metadata.image().cluster_id());
    assert_eq!(first.voters(), [1].into(), "of two voters neither may end");
    // By way of another one that is not the controller.
    let third = Broker::start(3, &dirs[2], &[&second]).await;
    until(|| [&first, &second, &third].iter().all(|broker| broker.voters() == [1, 2, 3].into())).await;
    until(|| second.bytes() == first.bytes() && third.bytes() == first.bytes()).await;
    assert!(second.metadata.raft().metrics().borrow().snapshot.is_some(), "it came by snapshot");
    // Whoever is asked; and whoever has an answer sees what it did.
    third.put("by-the-third").await;
    assert!(third.has("by-the-third"));
    until(|| first.has("by-the-third") && second.has("by-the-third")).await;
    let exists = second.metadata.put_document("pipeline", "by-the-third", Vec::new(), Some(0)).await;
    assert!(matches!(exists, Err(ProposeError::Rejected(Rejection::DocumentVersion { .. }))), "{exists:?}");

    first.stop().await;
    // The command waits for the election.
    second.put("without-the-first").await;
    until(|| third.has("without-the-first")).await;
    // It comes back at another address, and is told what it has missed.
    let first = Broker::start(1, &dirs[0], &[]).await;
    until(|| first.has("without-the-first")).await;
    let known = |broker: &Broker| broker.metadata.image().member(BrokerId(1)).unwrap().address.clone();
    until(|| known(&second) == first.address && known(&third) == first.address).await;
    first.metadata.create_topic(TopicName::new("a").unwrap(), 1, 1, Default::default()).await.unwrap_err();
    second.stop().await;
    first.put("without-the-second").await;
    until(|| third.has("without-the-second")).await;
    // One of three is no majority: nothing is decided, and nobody waits for ever.
    third.stop().await;
    let alone = first.metadata.propose(put("alone", b"", None)).await;
    assert!(matches!(alone, Err(ProposeError::NotController { .. } | ProposeError::Unknown(_))), "{alone:?}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_takes_no_other_disk_and_no_other_cluster() {
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let first = Broker::start(1, &dirs[0], &[]).await;
    let second = Broker::start(2, &dirs[1], &[&first]).await;
    let refused =
        async |id: i32, dir: &TempDir| Broker::try_start(id, dir.path(), &[&first]).await.err().unwrap();
    let own = refused(1, &dirs[2]).await;
    assert!(own.contains("node id 1 is this broker's own"), "{own}");
    second.stop().await;
    // The same number, and a disk that knows nothing.
    let wiped = refused(2, &dirs[2]).await;
    assert!(wiped.contains("node id 2 belongs to another data directory"), "{wiped}");
    let second = Broker::start(2, &dirs[1], &[&first]).await;
    let stranger = Broker::start(3, &dirs[3], &[]).await;
    stranger.stop().await;
    let stranger = refused(3, &dirs[3]).await;
    assert!(stranger.contains("belongs to cluster"), "{stranger}");
    // Nobody is there.
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let config = MetadataConfig {
        dir: dirs[2].path().join("new"),
        node_id: BrokerId(4),
        address: "127.0.0.1:1".to_owned(),
        cluster_id: None,
        join: vec![nowhere.clone()],
    };
    let alone = Metadata::open(config, SystemClock::shared(), Arc::new(TcpConnector)).await.err().unwrap();
    assert!(alone.to_string().contains(&format!("can't reach {nowhere}")), "{alone}");
    second.stop().await;
    first.stop().await;
}

/// What is sent to a broker's listener by somebody who is none.
#[tokio::test]
async fn strangers_get_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(1, &dir, &[]).await;
    let address: SocketAddr = broker.address.parse().unwrap();
    let closes = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // It may hang up while bytes of ours are unread.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    // A length that no hello has; a Kafka request; a frame that ends early is waited for until the peer is gone.
    assert!(closes(&[0x7f, 0xff, 0xff, 0xff]).await.is_empty());
    assert!(closes(b"GET / HTTP/1.1\r\n\r\n").await.is_empty());
    let api_versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let told = closes(&api_versions).await;
    assert!(String::from_utf8_lossy(&told).contains("the first request is 18, not a hello"), "{told:?}");

    let connector: Arc<dyn Connect> = Arc::new(TcpConnector);
    let from = Member { id: BrokerId(9), incarnation: Uuid::from_u128(9) };
    let unknown = Hello { cluster_id: None, from, to: None };
    let mut connection = Connection::open(&connector, &broker.address, &unknown).await.unwrap();
    let refused = connection.call(&put("p", b"", None)).await.unwrap_err().to_string();
    assert!(refused.contains("can ask for nothing"), "{refused}");
    let negative = Member { id: BrokerId(-1), ..from };
    let refused =
        Connection::open(&connector, &broker.address, &Hello { from: negative, ..unknown.clone() }).await;
    assert!(refused.err().unwrap().to_string().contains("-1 is no node id"));
    let wrong = Hello { to: Some(BrokerId(2)), ..unknown };
    let refused = Connection::open(&connector, &broker.address, &wrong).await.err().unwrap().to_string();
    assert!(refused.contains("this is broker 1, not 2"), "{refused}");
    assert!(broker.metadata.image().document("pipeline", "p").is_none());
    broker.stop().await;
}
