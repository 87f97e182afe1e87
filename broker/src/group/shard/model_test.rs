//! Random clients against a shard, checked against what must always hold. One seed is one run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::super::testing::{Bench, commit, fetch, fetched, heartbeat, join, leave, rejoin, static_join};
use super::super::{
    AppendError, CommitOffsets, Event, FetchOffsets, GenerationId, GroupConfig, GroupError, GroupId,
    GroupInstanceId, GroupRecord, GroupState, JoinGroup, Joined, MemberId, Protocol, Reply, Request,
    SyncGroup,
};

const GROUPS: [&str; 2] = ["a", "b"];
const STEPS: usize = 400;

/// splitmix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What a client knows of itself.
#[derive(Default)]
struct Client {
    group: &'static str,
    instance_id: Option<&'static str>,
    member_id: Option<MemberId>,
    joined: Option<Joined>,
}

enum Asked {
    Join { client: usize },
    Sync { client: usize, generation_id: GenerationId },
    Commit { group: &'static str, offset: i64 },
    Fetch { group: &'static str, at_least: Option<i64> },
    Delete { group: &'static str },
    Other,
}

struct Model {
    random: Random,
    bench: Bench,
    failures: bool,
    clients: Vec<Client>,
    asked: BTreeMap<u64, Asked>,
    /// Who led each generation: a member id, or a static member's instance id.
    leaders: HashMap<(&'static str, usize, GenerationId), String>,
    next_offset: i64,
    acknowledged: HashMap<&'static str, i64>,
    seen: HashSet<&'static str>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let config = GroupConfig {
            initial_rebalance_delay: Duration::from_millis([0, 500][random.below(2)]),
            max_size: [3, 100][random.below(2)],
            offsets_retention: Duration::from_secs(40),
            offsets_retention_check_interval: Duration::from_secs(15),
            ..GroupConfig::default()
        };
        let mut bench = Bench::new(config);
        bench.auto_append = random.chance(30);
        let clients = (0..6)
            .map(|n| Client {
                group: GROUPS[n % 2],
                instance_id: [None, None, Some("i"), Some("j")][random.below(4)],
                ..Client::default()
            })
            .collect();
        let failures = random.chance(50);
        Self {
            random,
            bench,
            failures,
            clients,
            asked: BTreeMap::new(),
            leaders: HashMap::new(),
            next_offset: 0,
            acknowledged: HashMap::new(),
            seen: HashSet::new(),
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.act();
            self.look_at_replies();
        }
        self.quiesce();
        self.check_log();
        self.bench.event(Event::Unload);
        self.look_at_replies();
        assert!(self.asked.is_empty(), "{} requests were never answered", self.asked.len());
    }

    fn act(&mut self) {
        let client = self.random.below(self.clients.len());
        match self.random.below(100) {
            0..25 => self.join(client),
            25..45 => self.sync(client),
            45..55 => self.heartbeat(client),
            55..60 => self.leave(client),
            60..72 => self.commit(client),
            72..78 => self.fetch(client),
            78..80 => {
                let group = self.clients[client].group;
                self.send(Request::DeleteGroup(GroupId::new(group)), Asked::Delete { group });
            }
            80..90 => {
                let ms = [1, 100, 3_000, 12_000][self.random.below(4)];
                self.bench.advance_ms(ms);
            }
            // A restarted process knows nothing but its instance id.
            90..92 => self.forget(client),
            _ => self.decide_append(),
        }
    }

    fn send(&mut self, request: Request, asked: Asked) {
        self.asked.insert(self.bench.sent_count(), asked);
        self.bench.send(request);
    }

    fn join(&mut self, client: usize) {
        let Client { group, instance_id, ref member_id, .. } = self.clients[client];
        let mut request = match instance_id {
            Some(instance_id) => static_join(group, instance_id),
            None => join(group),
        };
        request.random = Uuid::from_u128(self.random.below(usize::MAX) as u128);
        request.requires_known_member_id = self.random.chance(70);
        request.supports_skipping_assignment = self.random.chance(50);
        request.session_timeout_ms = 6_000 + 1_000 * self.random.below(10) as i32;
        request.rebalance_timeout_ms = 1_000 * self.random.below(8) as i32;
        request.protocols = ["range", "sticky", "range"]
            .iter()
            .skip(self.random.below(3))
            .map(|name| Protocol { name: (*name).into(), metadata: Bytes::from_static(b"m") })
            .collect();
        let request = match member_id {
            Some(member_id) => rejoin(request, member_id),
            None => Request::Join(JoinGroup { ..request }),
        };
        self.send(request, Asked::Join { client });
    }

    fn sync(&mut self, client: usize) {
        let Client { group, instance_id, ref joined, .. } = self.clients[client];
        let Some(joined) = joined.clone() else { return };
        let generation_id = joined.generation_id;
        // Each gets its own name, so that an assignment in the wrong hands shows.
        let assignments = joined
            .members
            .iter()
            .map(|member| {
                let name = member
                    .group_instance_id
                    .as_ref()
                    .map_or(member.member_id.as_str(), GroupInstanceId::as_str);
                (member.member_id.clone(), Bytes::from(format!("{generation_id} {name}")))
            })
            .collect();
        let request = SyncGroup {
            group_id: GroupId::new(group),
            generation_id,
            member_id: joined.member_id,
            group_instance_id: instance_id.map(GroupInstanceId::new),
            protocol_type: joined.protocol_type,
            protocol_name: joined.protocol_name,
            assignments,
        };
        self.send(Request::Sync(request), Asked::Sync { client, generation_id });
    }

    fn heartbeat(&mut self, client: usize) {
        let Client { group, joined: Some(joined), .. } = &self.clients[client] else { return };
        let request = heartbeat(group, joined.generation_id.0, &joined.member_id);
        self.send(request, Asked::Other);
    }

    fn leave(&mut self, client: usize) {
        let Client { group, instance_id, ref member_id, .. } = self.clients[client];
        let member_id = member_id.clone().unwrap_or_else(MemberId::unknown);
        self.send(leave(group, &[(member_id.as_str(), instance_id)]), Asked::Other);
    }

    fn commit(&mut self, client: usize) {
        let Client { group, ref joined, .. } = self.clients[client];
        self.next_offset += 1;
        let offset = self.next_offset;
        let mut request: CommitOffsets = commit(group, offset);
        if let Some(joined) = joined {
            request.generation_id = joined.generation_id;
            request.member_id = joined.member_id.clone();
        }
        self.send(Request::CommitOffsets(request), Asked::Commit { group, offset });
    }

    fn fetch(&mut self, client: usize) {
        let group = self.clients[client].group;
        let at_least = self.acknowledged.get(group).copied();
        let require_stable = self.random.chance(50);
        self.send(fetch(group, require_stable), Asked::Fetch { group, at_least });
    }

    fn forget(&mut self, client: usize) {
        self.clients[client].member_id = None;
        self.clients[client].joined = None;
    }

    fn decide_append(&mut self) {
        if self.bench.in_flight.is_some() {
            let fails = self.failures && self.random.chance(20);
            self.bench.appended(if fails { Err(AppendError::NotEnoughReplicas) } else { Ok(()) });
        }
    }

    fn look_at_replies(&mut self) {
        let tokens: Vec<u64> = self.asked.keys().copied().collect();
        for token in tokens {
            if let Some((reply, log_length)) = self.bench.take_dated(token) {
                let asked = self.asked.remove(&token).unwrap();
                self.look_at(asked, reply, log_length);
            }
        }
    }

    fn look_at(&mut self, asked: Asked, reply: Reply, log_length: usize) {
        match (asked, reply) {
            (Asked::Join { client }, Reply::Join(Ok(joined))) => {
                self.look_at_joined(client, joined, log_length);
            }
            (Asked::Join { client }, Reply::Join(Err(refused))) => {
                self.seen.insert("join refused");
                match refused.error {
                    GroupError::MemberIdRequired => {
                        self.clients[client].member_id = Some(refused.member_id);
                    }
                    GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.forget(client),
                    _ => {}
                }
            }
            (Asked::Sync { client, generation_id }, Reply::Sync(Ok(synced))) => {
                self.seen.insert("synced");
                let client = &self.clients[client];
                let name = client.instance_id.map(str::to_owned);
                let Some(name) = name.or_else(|| client.member_id.as_ref().map(MemberId::to_string)) else {
                    return;
                };
                let expected = format!("{generation_id} {name}");
                let assignment = synced.assignment;
                // A client that has joined anew since has another name.
                let renamed = client.instance_id.is_none() && client.joined.is_none();
                assert!(
                    assignment.is_empty() || assignment == expected || renamed,
                    "{expected:?} was handed {assignment:?}"
                );
            }
            (Asked::Commit { group, offset }, Reply::CommitOffsets(Ok(results))) => {
                assert_eq!(results, [Ok(())]);
                let acknowledged = self.acknowledged.entry(group).or_insert(offset);
                assert!(*acknowledged <= offset, "commits of a group are acknowledged out of order");
                *acknowledged = offset;
                self.seen.insert("committed");
            }
            (Asked::Fetch { group, at_least }, reply @ Reply::FetchOffsets(Ok(_))) => {
                let found = fetched(reply);
                // Offsets may have been deleted or have expired since; what is there must be new enough.
                if let (Some(found), Some(at_least)) = (found, at_least) {
                    assert!(found >= at_least, "{group}: fetched {found}, {at_least} was acknowledged");
                    self.seen.insert("fetched");
                }
            }
            (Asked::Delete { group }, Reply::DeleteGroup(Ok(()))) => {
                self.acknowledged.remove(group);
                self.seen.insert("deleted");
            }
            _ => {}
        }
    }

    fn look_at_joined(&mut self, client: usize, joined: Joined, log_length: usize) {
        let Client { group, instance_id, .. } = self.clients[client];
        if joined.leader == joined.member_id {
            let name = instance_id.map_or_else(|| joined.member_id.to_string(), str::to_owned);
            let key = (group, self.incarnation(group, log_length), joined.generation_id);
            let leader = self.leaders.entry(key).or_insert_with(|| name.clone());
            assert_eq!(*leader, name, "{group}: two leaders in generation {}", joined.generation_id);
            self.seen.insert("led");
        }
        if !joined.members.is_empty() {
            assert_eq!(joined.leader, joined.member_id, "only the leader is told the members");
            assert!(joined.members.iter().any(|member| member.member_id == joined.member_id));
        }
        self.clients[client].member_id = Some(joined.member_id.clone());
        self.clients[client].joined = Some(joined);
    }

    /// How often the group had been deleted when the log was that long: its generations begin again then.
    fn incarnation(&self, group: &str, log_length: usize) -> usize {
        let deletes = |record: &&GroupRecord| match record {
            GroupRecord::GroupMetadata { group_id, value: None } => group_id.as_str() == group,
            _ => false,
        };
        self.bench.log[..log_length].iter().filter(deletes).count()
    }

    /// With the clients silent, every parked request is answered in time and every group empties.
    fn quiesce(&mut self) {
        self.failures = false;
        self.bench.auto_append = true;
        self.decide_append();
        for _ in 0..40 {
            self.bench.advance(Duration::from_secs(10));
        }
        self.look_at_replies();
        assert!(self.asked.is_empty(), "{} requests are still parked", self.asked.len());
        for group in GROUPS {
            let state = self.bench.state(group);
            assert!(matches!(state, None | Some(GroupState::Empty)), "{group} is {state:?}");
        }
    }

    /// A shard that replays the log has the offsets that this one has.
    fn check_log(&mut self) {
        let mut replayed = Bench::loading(GroupConfig::default());
        replayed.event(Event::Replay(self.bench.log.clone()));
        replayed.event(Event::Loaded);
        for group in GROUPS {
            let all = FetchOffsets { group_id: GroupId::new(group), topics: None, require_stable: true };
            let ours = self.bench.call(Request::FetchOffsets(all.clone()));
            assert_eq!(replayed.call(Request::FetchOffsets(all)), ours, "{group}");
        }
    }
}

#[test]
fn whatever_clients_do_the_invariants_hold() {
    let seeds = match std::env::var("MILLSTREAM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..400).collect(),
    };
    let single = seeds.len() == 1;
    let mut seen = HashSet::new();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            model.run();
            model.seen
        });
        match run {
            Ok(run) => seen.extend(run),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("seed {seed} (MILLSTREAM_SEED={seed} runs it alone): {text}");
            }
        }
    }
    // The clients must get far enough for the checks to mean something.
    let expected = ["join refused", "synced", "committed", "fetched", "deleted", "led"];
    assert!(single || expected.iter().all(|what| seen.contains(what)), "only {seen:?}");
}
