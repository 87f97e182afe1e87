//! Offsets: committed, fetched, deleted, expired.

use super::*;

fn check_commit(prepare: fn(&mut Bench) -> CommitOffsets, expected: Result<(), GroupError>) {
    let mut bench = bench();
    let request = prepare(&mut bench);
    match bench.call(Request::CommitOffsets(request)) {
        Reply::CommitOffsets(result) => assert_eq!(result.map(|_| ()), expected),
        other => panic!("{other:?}"),
    }
}

fn member_commit(generation: i32, member_id: &str) -> CommitOffsets {
    CommitOffsets {
        generation_id: GenerationId(generation),
        member_id: MemberId::new(member_id),
        ..commit("g", 1)
    }
}

#[test]
fn who_is_no_member_commits_to_groups_without_members() {
    check_commit(|_| commit("g", 1), Ok(()));
    check_commit(
        |bench| {
            let members = bench.stable_group("g", 1);
            bench.call(leave("g", &[(members[0].as_str(), None)]));
            commit("g", 1)
        },
        Ok(()),
    );
    check_commit(
        |bench| {
            bench.stable_group("g", 1);
            commit("g", 1)
        },
        Err(GroupError::UnknownMemberId),
    );
    check_commit(|_| member_commit(1, "m"), Err(GroupError::GroupIdNotFound));
    check_commit(
        |_| CommitOffsets { knows_group_id_not_found: false, ..member_commit(1, "m") },
        Err(GroupError::IllegalGeneration),
    );
}

#[test]
fn members_commit_in_their_generation() {
    check_commit(
        |bench| {
            let members = bench.stable_group("g", 1);
            member_commit(1, members[0].as_str())
        },
        Ok(()),
    );
    check_commit(
        |bench| {
            let members = bench.stable_group("g", 1);
            member_commit(0, members[0].as_str())
        },
        Err(GroupError::IllegalGeneration),
    );
    check_commit(
        |bench| {
            bench.stable_group("g", 1);
            member_commit(1, "x")
        },
        Err(GroupError::UnknownMemberId),
    );
    check_commit(
        |bench| {
            static_group(bench);
            let instance = Some(GroupInstanceId::new("i"));
            CommitOffsets { group_instance_id: instance, ..member_commit(1, "x") }
        },
        Err(GroupError::FencedInstanceId),
    );
    check_commit(
        |bench| {
            // A rebalance has begun: what the members did before it still counts.
            let members = bench.stable_group("g", 2);
            bench.send(rejoin(join("g"), &members[0]));
            member_commit(1, members[1].as_str())
        },
        Ok(()),
    );
    check_commit(
        |bench| {
            let id = bench.new_member_id(join("g"));
            bench.send(rejoin(join("g"), &id));
            member_commit(1, id.as_str())
        },
        Err(GroupError::RebalanceInProgress),
    );
}

#[test]
fn offsets_are_visible_once_they_are_durable() {
    let mut bench = bench();
    bench.auto_append = false;
    let first = bench.send(Request::CommitOffsets(commit("g", 5)));
    let stable = bench.send(fetch("g", true));
    assert_eq!(fetched(bench.call(fetch("g", false))), None);
    bench.assert_parked(first);
    bench.assert_parked(stable);
    // These three become one append.
    let more: Vec<_> = (6..9).map(|n| bench.send(Request::CommitOffsets(commit("g", n)))).collect();
    bench.appended(Ok(()));
    assert_eq!(bench.take(first), Some(Reply::CommitOffsets(Ok(vec![Ok(())]))));
    assert_eq!(fetched(bench.take(stable).unwrap()), Some(5));
    assert_eq!(bench.in_flight.as_ref().unwrap().len(), 3);
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
    bench.appended(Ok(()));
    assert_eq!(more.into_iter().filter_map(|token| bench.take(token)).count(), 3);
    assert_eq!(fetched(bench.call(fetch("g", true))), Some(8));
}

#[test]
fn offsets_that_cant_be_written_are_not_committed() {
    let cases = [
        (AppendError::NotEnoughReplicas, GroupError::CoordinatorNotAvailable),
        (AppendError::NotLeader, GroupError::NotCoordinator),
        (AppendError::TooLarge, GroupError::InvalidCommitOffsetSize),
    ];
    for (failure, expected) in cases {
        let mut bench = bench();
        bench.auto_append = false;
        let token = bench.send(Request::CommitOffsets(commit("g", 5)));
        bench.appended(Err(failure));
        assert_eq!(bench.take(token), Some(Reply::CommitOffsets(Err(expected))));
        assert_eq!(fetched(bench.call(fetch("g", false))), None);
        assert_eq!(bench.state("g"), None, "nothing is left of the group");
    }
}

#[test]
fn metadata_above_the_limit_fails_its_offset_alone() {
    let mut bench = bench();
    let mut request = commit("g", 5);
    let mut large = request.offsets[0].clone();
    large.partition = PartitionIndex(1);
    large.metadata = "x".repeat(4_097).into();
    request.offsets.push(large);
    let expected = vec![Ok(()), Err(GroupError::OffsetMetadataTooLarge)];
    assert_eq!(bench.call(Request::CommitOffsets(request)), Reply::CommitOffsets(Ok(expected)));
    assert_eq!(bench.log.len(), 1);
}

#[test]
fn offsets_of_another_topic_of_the_same_name_are_not_found() {
    let mut bench = bench();
    let id = |n: u128| Some(TopicId(uuid::Uuid::from_u128(n)));
    let mut request = commit("g", 5);
    request.offsets[0].topic_id = id(1);
    bench.call(Request::CommitOffsets(request));
    let mut check = |topic_id, expected| {
        let asked = FetchOffsetsTopic { topic: topic("t"), topic_id, partitions: vec![PartitionIndex(0)] };
        let request =
            FetchOffsets { group_id: GroupId::new("g"), topics: Some(vec![asked]), require_stable: false };
        assert_eq!(fetched(bench.call(Request::FetchOffsets(request))), expected, "{topic_id:?}");
    };
    check(None, Some(5));
    check(id(1), Some(5));
    check(id(2), None);
}

#[test]
fn a_deleted_topics_offsets_go_with_it() {
    let mut bench = bench();
    let id = |n: u128| TopicId(uuid::Uuid::from_u128(n));
    let mut request = commit("g", 5);
    request.offsets[0].topic_id = Some(id(1));
    bench.call(Request::CommitOffsets(request));
    bench.event(Event::TopicsDeleted(vec![(topic("t"), id(2)), (topic("u"), id(1))]));
    assert_eq!(fetched(bench.call(fetch("g", false))), Some(5));
    bench.event(Event::TopicsDeleted(vec![(topic("t"), id(1))]));
    assert_eq!(fetched(bench.call(fetch("g", false))), None);
    assert!(matches!(bench.log.last(), Some(GroupRecord::OffsetCommit { value: None, .. })));
}
