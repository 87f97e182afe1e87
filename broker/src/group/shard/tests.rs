//! Each rule of the group protocol, as events in and replies and records out.

mod groups;
mod offsets;
mod static_members;

use std::time::Duration;

use bytes::Bytes;

use super::super::testing::{
    Bench, START_MS, assigned, commit, fetch, fetched, heartbeat, join, leave, protocol, rejoin, static_join,
    sync, topic,
};
use super::super::{
    AppendError, CommitOffsets, DeleteOffsets, Event, FetchOffsets, FetchOffsetsTopic, GenerationId,
    GroupConfig, GroupError, GroupId, GroupInstanceId, GroupRecord, GroupState, JoinGroup, JoinRefused,
    ListGroups, MemberId, MemberLeft, Protocol, Reply, Request, SyncGroup,
};
use crate::ids::{PartitionIndex, TopicId, TopicPartition};

fn bench() -> Bench {
    Bench::new(GroupConfig::default())
}

fn refused(error: GroupError, member_id: &str) -> Reply {
    Reply::Join(Err(JoinRefused { error, member_id: MemberId::new(member_id) }))
}

/// A stable group of one static member, and that member's id.
fn static_group(bench: &mut Bench) -> MemberId {
    let token = bench.send(Request::Join(static_join("g", "i")));
    let joined = bench.joined(token);
    assert!(joined.member_id.as_str().starts_with("i-"), "{}", joined.member_id);
    let token = bench.send(sync("g", &joined, std::slice::from_ref(&joined.member_id)));
    bench.synced(token);
    joined.member_id
}

/// The group's members in the last record of the log, or `None` for a tombstone.
fn logged_members(bench: &Bench) -> Option<Vec<(String, Bytes)>> {
    match bench.log.last().expect("something was written") {
        GroupRecord::GroupMetadata { value, .. } => value.as_ref().map(|value| {
            value.members.iter().map(|m| (m.member_id.to_string(), m.assignment.clone())).collect()
        }),
        other => panic!("expected the group's record, got {other:?}"),
    }
}

#[test]
fn joins_are_refused_for_what_they_ask() {
    let check = |change: fn(&mut JoinGroup), expected: GroupError| {
        let mut bench = bench();
        bench.stable_group("g", 1);
        let mut request = join("g");
        change(&mut request);
        let member_id = request.member_id.to_string();
        assert_eq!(bench.call(Request::Join(request)), refused(expected, &member_id));
    };
    check(|join| join.session_timeout_ms = 5_999, GroupError::InvalidSessionTimeout);
    check(|join| join.session_timeout_ms = 1_800_001, GroupError::InvalidSessionTimeout);
    check(|join| join.protocol_type = "connect".into(), GroupError::InconsistentGroupProtocol);
    check(|join| join.protocols = vec![protocol("other", &[])], GroupError::InconsistentGroupProtocol);
    check(|join| join.protocols.clear(), GroupError::InconsistentGroupProtocol);
    check(|join| join.member_id = MemberId::new("nobody"), GroupError::UnknownMemberId);
    check(
        |join| join.protocols[0].metadata = Bytes::from(vec![0; (1 << 20) + 1]),
        GroupError::InvalidRequest,
    );
    check(|join| join.client_id = "x".repeat(32_001).into(), GroupError::InvalidRequest);
    check(|join| join.group_id = GroupId::new(&"x".repeat(32_001)), GroupError::InvalidGroupId);
    check(
        |join| {
            join.group_id = GroupId::new("none");
            join.member_id = MemberId::new("m");
        },
        GroupError::UnknownMemberId,
    );
    check(
        |join| {
            join.group_id = GroupId::new("none");
            join.protocol_type = "".into();
        },
        GroupError::InconsistentGroupProtocol,
    );
}

#[test]
fn a_refused_join_leaves_no_group_behind() {
    let mut bench = bench();
    let request = JoinGroup { protocols: Vec::new(), ..join("g") };
    bench.call(Request::Join(request));
    assert_eq!(bench.state("g"), None);
}

#[test]
fn a_new_member_is_given_an_id_to_join_with() {
    let mut bench = bench();
    let member_id = bench.new_member_id(join("g"));
    assert!(member_id.as_str().starts_with("client-"), "{member_id}");
    assert_eq!(bench.state("g"), Some(GroupState::Empty));
    let token = bench.send(rejoin(join("g"), &member_id));
    let joined = bench.joined(token);
    assert_eq!((joined.member_id.clone(), joined.leader), (member_id.clone(), member_id));
    assert_eq!(joined.generation_id, GenerationId(1));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn an_old_client_joins_at_once() {
    let mut bench = bench();
    let token = bench.send(Request::Join(JoinGroup { requires_known_member_id: false, ..join("g") }));
    assert_eq!(bench.joined(token).generation_id, GenerationId(1));
}

#[test]
fn an_id_that_is_not_joined_with_expires_and_holds_up_the_join_until_then() {
    let mut bench = bench();
    let first = bench.new_member_id(join("g"));
    let token = bench.send(rejoin(join("g"), &first));
    bench.joined(token);
    let slow = bench.new_member_id(JoinGroup { session_timeout_ms: 20_000, ..join("g") });
    let token = bench.send(rejoin(join("g"), &first));
    let again = bench.joined(token);
    assert_eq!(again.generation_id, GenerationId(1), "nothing has changed for the group yet");
    let third = bench.send(Request::Join(JoinGroup { requires_known_member_id: false, ..join("g") }));
    let token = bench.send(rejoin(join("g"), &first));
    bench.assert_parked(token);
    bench.advance_ms(20_000);
    assert_eq!(bench.joined(token).generation_id, GenerationId(2));
    bench.joined(third);
    assert_eq!(bench.call(rejoin(join("g"), &slow)), refused(GroupError::UnknownMemberId, slow.as_str()));
}

#[test]
fn a_group_that_only_gave_out_an_id_is_forgotten_with_it() {
    let mut bench = bench();
    bench.new_member_id(join("g"));
    bench.advance_ms(10_000);
    assert_eq!(bench.state("g"), None);
    assert!(bench.log.is_empty());
}

#[test]
fn the_first_rebalance_waits_for_more_members_up_to_the_rebalance_timeout() {
    let config =
        GroupConfig { initial_rebalance_delay: Duration::from_millis(3_000), ..GroupConfig::default() };
    let mut bench = Bench::new(config);
    let new = || {
        Request::Join(JoinGroup { requires_known_member_id: false, rebalance_timeout_ms: 7_000, ..join("g") })
    };
    let first = bench.send(new());
    bench.advance_ms(2_999);
    bench.assert_parked(first);
    let second = bench.send(new());
    // Someone came: 3 more seconds, of the 4 that are left.
    bench.advance_ms(3_000);
    bench.assert_parked(first);
    let third = bench.send(new());
    // And again, but now only 1 second is left.
    bench.advance_ms(1_001);
    let joined = [first, second, third].map(|token| bench.joined(token));
    assert!(joined.iter().all(|joined| joined.generation_id == GenerationId(1)));
    assert_eq!(joined.iter().map(|joined| joined.members.len()).sum::<usize>(), 3, "only the leader's");
}

#[test]
fn the_protocol_that_most_members_prefer_of_those_all_know_is_chosen() {
    let mut bench = bench();
    let with = |names: &[&str]| JoinGroup {
        protocols: names.iter().map(|name| protocol(name, &["t"])).collect(),
        ..join("g")
    };
    // Each prefers something else first, but not everyone knows that.
    let preferences = [&["x", "b", "a"][..], &["a", "b"], &["y", "b", "a"]];
    for joined in bench.join_together(preferences.map(with)) {
        assert_eq!(joined.protocol_name.as_deref(), Some("b"));
    }
}

#[test]
fn a_protocol_named_twice_counts_once() {
    let mut bench = bench();
    let twice = JoinGroup { protocols: vec![protocol("range", &["t"]), protocol("range", &[])], ..join("g") };
    let id = bench.new_member_id(twice.clone());
    let token = bench.send(rejoin(twice, &id));
    assert_eq!(bench.joined(token).members[0].metadata, protocol("range", &["t"]).metadata);
}

#[test]
fn followers_wait_for_the_leaders_assignment_and_that_for_the_log() {
    let mut bench = bench();
    let joined = bench.join_together([join("g"), join("g")]);
    let [leader, follower] = &joined[..] else { panic!() };
    let ids = [leader.member_id.clone(), follower.member_id.clone()];
    bench.auto_append = false;
    let early = bench.send(sync("g", follower, &[]));
    let leads = bench.send(sync("g", leader, &ids));
    bench.assert_parked(early);
    bench.assert_parked(leads);
    assert_eq!(bench.state("g"), Some(GroupState::CompletingRebalance));
    bench.appended(Ok(()));
    assert_eq!(bench.synced(early).assignment, assigned(&follower.member_id));
    assert_eq!(bench.synced(leads).assignment, assigned(&leader.member_id));
    assert_eq!(bench.state("g"), Some(GroupState::Stable));
    let mut expected: Vec<_> = ids.iter().map(|id| (id.to_string(), assigned(id))).collect();
    expected.sort();
    assert_eq!(logged_members(&bench), Some(expected));
}

#[test]
fn an_assignment_that_cant_be_written_begins_another_rebalance() {
    let mut bench = bench();
    let id = bench.new_member_id(join("g"));
    let token = bench.send(rejoin(join("g"), &id));
    let joined = bench.joined(token);
    bench.auto_append = false;
    let token = bench.send(sync("g", &joined, &[id]));
    bench.appended(Err(AppendError::NotEnoughReplicas));
    assert_eq!(bench.take(token), Some(Reply::Sync(Err(GroupError::CoordinatorNotAvailable))));
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
}

#[test]
fn syncs_are_checked() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    let good = SyncGroup {
        group_id: GroupId::new("g"),
        generation_id: GenerationId(1),
        member_id: members[1].clone(),
        group_instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: Vec::new(),
    };
    let mut check = |change: fn(&mut SyncGroup), expected: Result<(), GroupError>| {
        let mut request = good.clone();
        change(&mut request);
        match bench.call(Request::Sync(request)) {
            Reply::Sync(result) => assert_eq!(result.map(|_| ()), expected),
            other => panic!("{other:?}"),
        }
    };
    check(|_| {}, Ok(()));
    check(
        |sync| {
            sync.protocol_type = None;
            sync.protocol_name = None;
        },
        Ok(()),
    );
    check(|sync| sync.generation_id = GenerationId(0), Err(GroupError::IllegalGeneration));
    check(|sync| sync.member_id = MemberId::new("x"), Err(GroupError::UnknownMemberId));
    check(|sync| sync.group_id = GroupId::new("x"), Err(GroupError::UnknownMemberId));
    check(|sync| sync.group_instance_id = Some(GroupInstanceId::new("x")), Err(GroupError::UnknownMemberId));
    check(|sync| sync.protocol_type = Some("x".into()), Err(GroupError::InconsistentGroupProtocol));
    check(|sync| sync.protocol_name = Some("x".into()), Err(GroupError::InconsistentGroupProtocol));
}

#[test]
fn a_join_turns_heartbeats_and_syncs_into_rebalance_in_progress() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    assert_eq!(bench.call(heartbeat("g", 1, &members[1])), Reply::Heartbeat(Ok(())));
    // The leader that joins again asks for a rebalance, even with nothing changed.
    let leader = bench.send(rejoin(join("g"), &members[0]));
    bench.assert_parked(leader);
    let rebalancing = Reply::Heartbeat(Err(GroupError::RebalanceInProgress));
    assert_eq!(bench.call(heartbeat("g", 1, &members[1])), rebalancing);
    let follower = bench.send(rejoin(join("g"), &members[1]));
    let joined = [bench.joined(leader), bench.joined(follower)];
    assert_eq!(joined[0].generation_id, GenerationId(2));
    assert_eq!(joined[0].leader, members[0], "the leader stays");
    // Between the join and the assignment heartbeats are fine.
    assert_eq!(bench.call(heartbeat("g", 2, &members[1])), Reply::Heartbeat(Ok(())));
    let old = Reply::Heartbeat(Err(GroupError::IllegalGeneration));
    assert_eq!(bench.call(heartbeat("g", 1, &members[1])), old);
    let parked = bench.send(sync("g", &joined[1], &[]));
    // A change of metadata before the assignment: everyone joins again.
    let changed = JoinGroup { protocols: vec![protocol("range", &["u"])], ..join("g") };
    let leader = bench.send(rejoin(changed, &members[0]));
    assert_eq!(bench.take(parked), Some(Reply::Sync(Err(GroupError::RebalanceInProgress))));
    bench.assert_parked(leader);
    let unknown = Reply::Heartbeat(Err(GroupError::UnknownMemberId));
    assert_eq!(bench.call(heartbeat("g", 2, &MemberId::new("x"))), unknown);
    assert_eq!(bench.call(heartbeat("none", 2, &members[1])), unknown);
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_generation_it_is_in() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    let token = bench.send(rejoin(join("g"), &members[1]));
    let joined = bench.joined(token);
    assert_eq!((joined.generation_id, joined.members.len()), (GenerationId(1), 0));
    assert_eq!(bench.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_repeated_join_answers_the_one_before() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    let first = bench.send(rejoin(join("g"), &members[0]));
    let second = bench.send(rejoin(join("g"), &members[0]));
    assert_eq!(bench.join_error(first), GroupError::RebalanceInProgress);
    bench.assert_parked(second);
}

#[test]
fn those_who_have_not_joined_by_the_rebalance_timeout_are_removed() {
    let mut bench = bench();
    let members = bench.stable_group("g", 3);
    let quiet = bench.send(rejoin(join("g"), &members[1]));
    bench.joined(quiet);
    let changed = JoinGroup { protocols: vec![protocol("range", &["u"])], ..join("g") };
    let token = bench.send(rejoin(changed, &members[1]));
    // All keep their sessions, but only one joins.
    for _ in 0..7 {
        bench.advance_ms(8_571);
        bench.call(heartbeat("g", 1, &members[0]));
        bench.call(heartbeat("g", 1, &members[2]));
    }
    bench.assert_parked(token);
    bench.advance_ms(10);
    let joined = bench.joined(token);
    assert_eq!(joined.leader, members[1], "the old leader is gone");
    assert_eq!(joined.members.len(), 1);
    let gone = Reply::Heartbeat(Err(GroupError::UnknownMemberId));
    assert_eq!(bench.call(heartbeat("g", 2, &members[0])), gone);
}

#[test]
fn those_who_have_not_synced_in_time_are_removed() {
    let mut bench = bench();
    let joined = bench.join_together([join("g"), join("g")]);
    let ids: Vec<_> = joined.iter().map(|joined| joined.member_id.clone()).collect();
    let token = bench.send(sync("g", &joined[0], &ids));
    bench.synced(token);
    for _ in 0..7 {
        assert_eq!(bench.state("g"), Some(GroupState::Stable));
        bench.call(heartbeat("g", 1, &joined[0].member_id));
        bench.call(heartbeat("g", 1, &joined[1].member_id));
        bench.advance_ms(8_572);
    }
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
    let gone = Reply::Heartbeat(Err(GroupError::UnknownMemberId));
    assert_eq!(bench.call(heartbeat("g", 1, &joined[1].member_id)), gone);
}

#[test]
fn a_silent_member_is_removed_and_a_silent_group_emptied() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    bench.advance_ms(9_999);
    bench.call(heartbeat("g", 1, &members[0]));
    bench.advance_ms(1);
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
    let written = bench.log.len();
    bench.advance_ms(10_000);
    assert_eq!(bench.state("g"), Some(GroupState::Empty));
    assert_eq!(bench.log.len(), written + 1);
    assert_eq!(logged_members(&bench), Some(Vec::new()));
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut bench = bench();
    let members = bench.stable_group("g", 1);
    for offset in 0..3 {
        bench.advance_ms(9_000);
        let request = CommitOffsets {
            generation_id: GenerationId(1),
            member_id: members[0].clone(),
            ..commit("g", offset)
        };
        assert_eq!(bench.call(Request::CommitOffsets(request)), Reply::CommitOffsets(Ok(vec![Ok(())])));
    }
    assert_eq!(bench.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_parked_join_keeps_a_new_member_for_a_limited_time_only() {
    let mut bench = bench();
    let slow = || JoinGroup { rebalance_timeout_ms: 1_000_000, ..join("g") };
    let first = bench.new_member_id(slow());
    let token = bench.send(rejoin(slow(), &first));
    let joined = bench.joined(token);
    let token = bench.send(sync("g", &joined, &[]));
    bench.synced(token);
    let second = bench.new_member_id(slow());
    let parked = bench.send(rejoin(slow(), &second));
    for _ in 0..33 {
        bench.advance_ms(9_000);
        bench.call(heartbeat("g", 1, &first));
    }
    bench.assert_parked(parked);
    bench.advance_ms(3_000);
    assert_eq!(bench.join_error(parked), GroupError::UnknownMemberId);
}

#[test]
fn a_full_group_refuses_members_and_sheds_the_last() {
    let mut bench = Bench::new(GroupConfig { max_size: 2, ..GroupConfig::default() });
    let members = bench.stable_group("g", 2);
    let full = refused(GroupError::GroupMaxSizeReached, "");
    assert_eq!(bench.call(Request::Join(join("g"))), full);
    // During the rebalance it is first come, first served.
    let leader = bench.send(rejoin(join("g"), &members[0]));
    let newcomer = bench.new_member_id(join("g"));
    let newcomer = bench.send(rejoin(join("g"), &newcomer));
    assert_eq!(bench.call(rejoin(join("g"), &members[1])), full);
    bench.joined(leader);
    bench.joined(newcomer);
}

#[test]
fn a_group_takes_members_only_up_to_the_bytes_of_their_protocols() {
    let mut bench = bench();
    let large = || JoinGroup {
        protocols: vec![Protocol { name: "range".into(), metadata: vec![0; 1_000_000].into() }],
        requires_known_member_id: false,
        rebalance_timeout_ms: 1_000_000,
        ..join("g")
    };
    let tokens = bench.send_together((0..70).map(|_| Request::Join(large())));
    let errors = tokens.into_iter().filter_map(|token| match bench.take(token) {
        Some(Reply::Join(Err(refused))) => Some(refused.error),
        _ => None,
    });
    // 64 MiB are 67 of them, and a little.
    assert_eq!(errors.collect::<Vec<_>>(), [GroupError::GroupMaxSizeReached; 3]);
    // Nor can a small member grow beyond it: it has to go, and the group to go on without it.
    let mut bench = Bench::new(GroupConfig::default());
    let small = || JoinGroup { protocols: vec![protocol("range", &["t"])], ..large() };
    let requests = (0..67).map(|_| large()).chain([small(), small()]);
    let joined = bench.join_together(requests);
    let small_id = &joined[0].members.iter().find(|member| member.metadata.len() < 1_000).unwrap().member_id;
    assert_eq!(bench.call(rejoin(large(), small_id)), refused(GroupError::GroupMaxSizeReached, ""));
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
}

#[test]
fn members_leave_each_with_a_result() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    let pending = bench.new_member_id(join("g"));
    let asked = [
        (members[1].as_str(), None),
        ("nobody", None),
        ("", Some("nobody")),
        ("", None),
        (pending.as_str(), None),
        (members[1].as_str(), None),
    ];
    let unknown = Err(GroupError::UnknownMemberId);
    let results = [Ok(()), unknown, unknown, unknown, Ok(()), unknown];
    let expected: Vec<_> = asked
        .iter()
        .zip(results)
        .map(|((id, instance), result)| MemberLeft {
            member_id: MemberId::new(id),
            group_instance_id: instance.map(GroupInstanceId::new),
            result,
        })
        .collect();
    assert_eq!(bench.call(leave("g", &asked)), Reply::Leave(Ok(expected)));
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
    let Reply::Leave(Ok(left)) = bench.call(leave("none", &[("m", None)])) else { panic!() };
    assert_eq!(left[0].result, Err(GroupError::UnknownMemberId));
}

#[test]
fn the_last_member_has_left_when_the_log_says_so() {
    let mut bench = bench();
    let members = bench.stable_group("g", 1);
    bench.auto_append = false;
    let token = bench.send(leave("g", &[(members[0].as_str(), None)]));
    bench.assert_parked(token);
    bench.appended(Ok(()));
    assert!(matches!(bench.take(token), Some(Reply::Leave(Ok(_)))));
    assert_eq!(bench.state("g"), Some(GroupState::Empty));
    assert_eq!(logged_members(&bench), Some(Vec::new()));
}
