//! Groups as a whole: deleted, listed, described, loaded, unloaded.

use super::*;

#[test]
fn groups_are_deleted_only_when_empty_and_with_all_they_have() {
    let mut bench = bench();
    let delete = |group: &str| Request::DeleteGroup(GroupId::new(group));
    assert_eq!(bench.call(delete("g")), Reply::DeleteGroup(Err(GroupError::GroupIdNotFound)));
    let members = bench.stable_group("g", 1);
    assert_eq!(bench.call(delete("g")), Reply::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    bench.call(leave("g", &[(members[0].as_str(), None)]));
    bench.auto_append = false;
    // A commit on its way is deleted too, or it would come back with a restart.
    let committed = bench.send(Request::CommitOffsets(commit("g", 5)));
    let token = bench.send(delete("g"));
    let busy = Reply::CommitOffsets(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.call(Request::CommitOffsets(commit("g", 6))), busy);
    assert_eq!(bench.call(delete("g")), Reply::DeleteGroup(Err(GroupError::GroupIdNotFound)));
    assert_eq!(bench.call(Request::Join(join("g"))), refused(GroupError::CoordinatorNotAvailable, ""));
    bench.appended(Ok(()));
    assert!(bench.take(committed).is_some());
    bench.assert_parked(token);
    assert_eq!(bench.in_flight.as_ref().map(Vec::len), Some(2), "the offset's and the group's tombstones");
    bench.appended(Ok(()));
    assert_eq!(bench.take(token), Some(Reply::DeleteGroup(Ok(()))));
    assert_eq!(bench.state("g"), None);
    assert_eq!(logged_members(&bench), None);
}

#[test]
fn a_group_whose_deletion_cant_be_written_is_still_there() {
    let mut bench = bench();
    bench.call(Request::CommitOffsets(commit("g", 5)));
    bench.auto_append = false;
    let token = bench.send(Request::DeleteGroup(GroupId::new("g")));
    bench.appended(Err(AppendError::TimedOut));
    let expected = Reply::DeleteGroup(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(bench.take(token), Some(expected));
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
}

#[test]
fn offsets_are_deleted_unless_members_need_them() {
    let at = |name: &str| TopicPartition { topic: topic(name), partition: PartitionIndex(0) };
    let delete = |group: &str| {
        Request::DeleteOffsets(DeleteOffsets {
            group_id: GroupId::new(group),
            partitions: vec![at("t"), at("u")],
        })
    };
    let mut bench = bench();
    assert_eq!(bench.call(delete("g")), Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound)));
    bench.call(Request::CommitOffsets(commit("g", 5)));
    // The group's members subscribe to t.
    let members = bench.stable_group("g", 1);
    let expected = vec![Err(GroupError::GroupSubscribedToTopic), Ok(())];
    assert_eq!(bench.call(delete("g")), Reply::DeleteOffsets(Ok(expected)));
    bench.call(leave("g", &[(members[0].as_str(), None)]));
    assert_eq!(bench.call(delete("g")), Reply::DeleteOffsets(Ok(vec![Ok(()), Ok(())])));
    assert_eq!(fetched(bench.call(fetch("g", false))), None);
    // What members of another protocol need can't be known.
    let connect = JoinGroup { protocol_type: "connect".into(), requires_known_member_id: false, ..join("c") };
    bench.send(Request::Join(connect));
    assert_eq!(bench.call(delete("c")), Reply::DeleteOffsets(Err(GroupError::NonEmptyGroup)));
}

#[test]
fn offsets_expire() {
    let retention = Duration::from_secs(3_600);
    let config = GroupConfig {
        offsets_retention: retention,
        offsets_retention_check_interval: Duration::from_secs(60),
        ..GroupConfig::default()
    };
    let minute = Duration::from_secs(60);
    // Committed without membership: by their own age, and the group goes with them.
    let mut bench = Bench::new(config.clone());
    bench.call(Request::CommitOffsets(commit("g", 5)));
    bench.advance(retention - minute);
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
    bench.advance(minute * 2);
    assert_eq!(bench.state("g"), None);
    assert_eq!(logged_members(&bench), None);
    // An old client may ask for less.
    bench.call(Request::CommitOffsets(CommitOffsets { retention_time_ms: Some(60_000), ..commit("g", 6) }));
    bench.advance(minute * 2);
    assert_eq!(bench.state("g"), None);

    // With members: never what they subscribe to, and the rest by its age.
    let mut bench = Bench::new(config);
    let mut both = commit("g", 5);
    both.offsets.push(both.offsets[0].clone());
    both.offsets[1].topic = topic("u");
    bench.call(Request::CommitOffsets(both));
    let members = bench.stable_group("g", 1);
    for _ in 0..63 * 10 {
        bench.advance_ms(6_000);
        bench.call(heartbeat("g", 1, &members[0]));
    }
    let all = Request::FetchOffsets(FetchOffsets {
        group_id: GroupId::new("g"),
        topics: None,
        require_stable: false,
    });
    let Reply::FetchOffsets(Ok(left)) = bench.call(all.clone()) else { panic!() };
    assert_eq!(left.iter().map(|topic| topic.topic.as_str()).collect::<Vec<_>>(), ["t"]);
    // Without members: an hour after they have gone, not after the commit.
    bench.call(leave("g", &[(members[0].as_str(), None)]));
    bench.advance(retention - minute * 2);
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
    bench.advance(minute * 4);
    assert_eq!(bench.call(all), Reply::FetchOffsets(Ok(Vec::new())));
}

#[test]
fn groups_are_listed_by_state() {
    let mut bench = bench();
    bench.call(Request::CommitOffsets(commit("simple", 5)));
    bench.stable_group("stable", 1);
    let mut check = |states: &[GroupState], expected: &[&str]| {
        let request = ListGroups { states: states.to_vec() };
        let Reply::ListGroups(Ok(mut groups)) = bench.call(Request::ListGroups(request)) else { panic!() };
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        let found: Vec<_> = groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(found, expected, "{states:?}");
    };
    check(&GroupState::ALL, &["simple", "stable"]);
    check(&[GroupState::Stable], &["stable"]);
    check(&[GroupState::Dead], &[]);
    check(&[], &[]);
}

#[test]
fn a_group_is_described_in_full_when_it_is_stable() {
    let mut bench = bench();
    let members = bench.stable_group("g", 1);
    let describe = Request::DescribeGroup(GroupId::new("g"));
    let Reply::DescribeGroup(Ok(stable)) = bench.call(describe.clone()) else { panic!() };
    assert_eq!(stable.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(stable.protocol_name.as_deref(), Some("range"));
    assert_eq!(stable.members[0].assignment, assigned(&members[0]));
    assert_eq!(stable.members[0].metadata, protocol("range", &["t"]).metadata);
    assert_eq!(&*stable.members[0].client_host, "/127.0.0.1");
    bench.new_member_id(join("g"));
    bench.send(Request::Join(JoinGroup { requires_known_member_id: false, ..join("g") }));
    let Reply::DescribeGroup(Ok(rebalancing)) = bench.call(describe) else { panic!() };
    assert_eq!(rebalancing.protocol_name, None);
    assert!(rebalancing.members.iter().all(|m| m.metadata.is_empty() && m.assignment.is_empty()));
}

#[test]
fn a_loaded_shard_goes_on_where_the_log_ends() {
    let mut before = bench();
    let members = before.stable_group("g", 2);
    before.call(Request::CommitOffsets(CommitOffsets {
        generation_id: GenerationId(1),
        member_id: members[0].clone(),
        ..commit("g", 5)
    }));
    before.call(Request::CommitOffsets(commit("gone", 5)));
    before.call(Request::DeleteGroup(GroupId::new("gone")));

    let mut bench = Bench::loading(GroupConfig::default());
    let loading = GroupError::CoordinatorLoadInProgress;
    assert_eq!(bench.call(Request::Join(join("g"))), refused(loading, ""));
    assert_eq!(bench.call(fetch("g", false)), Reply::FetchOffsets(Err(loading)));
    // A heartbeat is answered: the member is no worse off for the coordinator's move.
    assert_eq!(bench.call(heartbeat("g", 1, &members[0])), Reply::Heartbeat(Ok(())));
    bench.event(Event::Replay(before.log));
    bench.event(Event::Loaded);
    assert_eq!(bench.state("gone"), None);
    assert_eq!(bench.state("g"), Some(GroupState::Stable));
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
    assert_eq!(bench.call(heartbeat("g", 1, &members[0])), Reply::Heartbeat(Ok(())));
    // The leader leads, and who is not heard of is removed.
    bench.advance_ms(9_000);
    bench.call(heartbeat("g", 1, &members[0]));
    bench.advance_ms(1_000);
    let token = bench.send(rejoin(join("g"), &members[0]));
    let joined = bench.joined(token);
    assert_eq!((joined.generation_id, joined.members.len()), (GenerationId(2), 1));
}

#[test]
fn a_group_loaded_above_its_size_rebalances() {
    let mut before = bench();
    before.stable_group("g", 3);
    let mut bench = Bench::loading(GroupConfig { max_size: 2, ..GroupConfig::default() });
    bench.event(Event::Replay(before.log));
    bench.event(Event::Loaded);
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
}

#[test]
fn an_unloaded_shard_sends_everyone_elsewhere() {
    let mut bench = bench();
    let members = bench.stable_group("g", 2);
    bench.auto_append = false;
    let join = bench.send(rejoin(join("g"), &members[0]));
    let commit = bench.send(Request::CommitOffsets(commit("simple", 1)));
    let stable = bench.send(fetch("simple", true));
    bench.event(Event::Unload);
    let elsewhere = GroupError::NotCoordinator;
    assert_eq!(bench.take(join), Some(refused(elsewhere, members[0].as_str())));
    assert_eq!(bench.take(commit), Some(Reply::CommitOffsets(Err(elsewhere))));
    assert_eq!(bench.take(stable), Some(Reply::FetchOffsets(Err(elsewhere))));
    assert_eq!(bench.call(fetch("g", false)), Reply::FetchOffsets(Err(elsewhere)));
    assert_eq!(bench.shard.next_deadline(), None);
    bench.appended(Ok(()));
}

#[test]
fn records_carry_the_time_and_an_append_its_limit() {
    let mut bench = bench();
    bench.call(Request::CommitOffsets(commit("g", 5)));
    let Some(GroupRecord::OffsetCommit { value: Some(value), .. }) = bench.log.last() else { panic!() };
    assert_eq!(value.commit_timestamp_ms, START_MS + 1_000);
    // 400 commits of 4 KB don't fit one batch of a topic that takes 1 MB.
    bench.auto_append = false;
    bench.send(Request::CommitOffsets(commit("g", 6)));
    for n in 0..400 {
        let mut request = commit("g", n);
        request.offsets[0].metadata = "x".repeat(4_096).into();
        bench.send(Request::CommitOffsets(request));
    }
    bench.appended(Ok(()));
    let first = bench.in_flight.as_ref().unwrap().len();
    assert!((150..250).contains(&first), "{first} records in one append");
    bench.appended(Ok(()));
    bench.appended(Ok(()));
    assert!(bench.in_flight.is_none() || bench.log.len() >= 400);
}
