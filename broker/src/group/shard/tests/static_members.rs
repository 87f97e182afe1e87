//! Static members (KIP-345).

use super::*;

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    for knows_skip in [true, false] {
        let mut bench = bench();
        let old_id = static_group(&mut bench);
        bench.auto_append = false;
        let request = JoinGroup { supports_skipping_assignment: knows_skip, ..static_join("g", "i") };
        let token = bench.send(Request::Join(request));
        bench.assert_parked(token);
        bench.appended(Ok(()));
        let joined = bench.joined(token);
        assert_ne!(joined.member_id, old_id);
        assert_eq!(joined.generation_id, GenerationId(1));
        assert_eq!(joined.skip_assignment, knows_skip);
        // An old client must not take itself for the leader: it would assign anew.
        assert_eq!(joined.leader == joined.member_id, knows_skip);
        assert_eq!(joined.members.len(), usize::from(knows_skip));
        assert_eq!(bench.state("g"), Some(GroupState::Stable));
        let expected = vec![(joined.member_id.to_string(), assigned(&old_id))];
        assert_eq!(logged_members(&bench), Some(expected));
        let token = bench.send(sync("g", &joined, &[]));
        assert_eq!(bench.synced(token).assignment, assigned(&old_id), "it keeps its assignment");
        let mut old = SyncGroup {
            group_id: GroupId::new("g"),
            generation_id: GenerationId(1),
            member_id: old_id.clone(),
            group_instance_id: Some(GroupInstanceId::new("i")),
            protocol_type: None,
            protocol_name: None,
            assignments: Vec::new(),
        };
        let fenced = Reply::Sync(Err(GroupError::FencedInstanceId));
        assert_eq!(bench.call(Request::Sync(old.clone())), fenced);
        old.group_instance_id = None;
        assert_eq!(bench.call(Request::Sync(old)), Reply::Sync(Err(GroupError::UnknownMemberId)));
    }
}

#[test]
fn a_static_member_whose_return_cant_be_written_has_not_come_back() {
    let mut bench = bench();
    let old_id = static_group(&mut bench);
    bench.auto_append = false;
    let token = bench.send(Request::Join(static_join("g", "i")));
    bench.appended(Err(AppendError::StorageFailed));
    assert_eq!(bench.take(token), Some(refused(GroupError::NotCoordinator, "")));
    assert_eq!(bench.call(heartbeat("g", 1, &old_id)), Reply::Heartbeat(Ok(())));
}

#[test]
fn a_static_member_that_changes_the_protocol_begins_a_rebalance() {
    let mut bench = bench();
    let both = JoinGroup {
        protocols: vec![protocol("range", &["t"]), protocol("sticky", &["t"])],
        ..static_join("g", "i")
    };
    let token = bench.send(Request::Join(both));
    let joined = bench.joined(token);
    let token = bench.send(sync("g", &joined, &[]));
    bench.synced(token);
    let other = JoinGroup { protocols: vec![protocol("sticky", &["t"])], ..static_join("g", "i") };
    let token = bench.send(Request::Join(other));
    let joined = bench.joined(token);
    assert_eq!(joined.generation_id, GenerationId(2));
    assert_eq!(joined.protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn a_static_member_that_comes_back_fences_what_its_old_self_has_parked() {
    let mut bench = bench();
    static_group(&mut bench);
    // Another member's join begins a rebalance, which the static one joins twice.
    let other = bench.new_member_id(join("g"));
    let other = bench.send(rejoin(join("g"), &other));
    let first = bench.send(Request::Join(static_join("g", "i")));
    let joined = bench.joined(first);
    let other = bench.joined(other);
    let parked = bench.send(sync("g", if joined.members.is_empty() { &joined } else { &other }, &[]));
    // In the middle of the generation: it begins again, for the leader may be assigning to the old id.
    let second = bench.send(Request::Join(static_join("g", "i")));
    bench.assert_parked(second);
    assert_eq!(bench.state("g"), Some(GroupState::PreparingRebalance));
    assert!(matches!(bench.take(parked), Some(Reply::Sync(Err(_)))));
    let third = bench.send(Request::Join(static_join("g", "i")));
    assert_eq!(bench.join_error(second), GroupError::FencedInstanceId);
    bench.assert_parked(third);
}

#[test]
fn a_static_member_may_miss_a_rebalance_but_not_its_session() {
    let mut bench = bench();
    let static_id = static_group(&mut bench);
    let quick = JoinGroup { rebalance_timeout_ms: 1_000, ..join("g") };
    let other = bench.new_member_id(quick.clone());
    let token = bench.send(rejoin(quick, &other));
    bench.advance_ms(9_000);
    bench.call(heartbeat("g", 1, &static_id));
    bench.assert_parked(token);
    // The static member asked for 60 s to rejoin; its session ends before that.
    bench.advance_ms(10_000);
    let joined = bench.joined(token);
    assert_eq!((joined.generation_id, joined.members.len()), (GenerationId(2), 1));
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut bench = bench();
    static_group(&mut bench);
    let Reply::Leave(Ok(fenced)) = bench.call(leave("g", &[("other", Some("i"))])) else { panic!() };
    assert_eq!(fenced[0].result, Err(GroupError::FencedInstanceId));
    let Reply::Leave(Ok(left)) = bench.call(leave("g", &[("", Some("i"))])) else { panic!() };
    assert_eq!(left[0].result, Ok(()));
    assert_eq!(bench.state("g"), Some(GroupState::Empty));
}
