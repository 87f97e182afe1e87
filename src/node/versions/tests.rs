//! What becomes of versions: which runs, which is gone back to, which waits.

use millstream_runtime::grants::Capability;

use super::*;

fn content(hash: &str) -> Content {
    Content {
        sha256: hash.to_owned(),
        config: Value::Null,
        limits: PluginLimits::default(),
        grants: Grants::default(),
    }
}

fn secrets(names: &[&str]) -> Grants {
    Grants { secrets: names.iter().map(ToString::to_string).collect(), ..Grants::default() }
}

fn needs() -> BTreeSet<Capability> {
    BTreeSet::from([Capability::Secrets])
}

fn numbers(versions: &Versions) -> (u32, Option<u32>, Option<u32>) {
    (versions.active, versions.previous, versions.canary.as_ref().map(|canary| canary.version))
}

#[test]
fn deploying_and_going_back() {
    let mut versions = Versions::first(content("a"), 1);
    assert_eq!(versions.deploy(content("a"), 2), 1);
    assert_eq!((numbers(&versions), versions.active_since_ms), ((1, None, None), 1));
    assert_eq!(versions.deploy(content("b"), 3), 2);
    assert_eq!(numbers(&versions), (2, Some(1), None));
    // Another configuration is another version.
    let configured = Content { config: Value::from(1), ..content("b") };
    assert_eq!(versions.deploy(configured, 4), 3);
    assert_eq!(versions.roll_back(None, 5), Ok(2));
    assert_eq!(numbers(&versions), (2, Some(3), None));
    assert_eq!(versions.roll_back(Some(1), 6), Ok(1));
    assert_eq!(versions.roll_back(Some(1), 7), Err(VersionError::Active(1)));
    assert_eq!(versions.roll_back(Some(9), 7), Err(VersionError::Unknown(9)));
    assert_eq!(Versions::first(content("a"), 1).roll_back(None, 2), Err(VersionError::NoPrevious));
}

#[test]
fn a_canary_is_promoted_or_taken_back() {
    let mut versions = Versions::first(content("a"), 1);
    let partitions = BTreeSet::from([0, 2]);
    assert_eq!(versions.promote(2), Err(VersionError::NoCanary));
    assert_eq!(versions.try_out(content("a"), partitions.clone(), 2), Err(VersionError::Active(1)));
    assert_eq!(versions.try_out(content("b"), partitions.clone(), 2), Ok(2));
    assert_eq!(numbers(&versions), (1, None, Some(2)));
    assert_eq!(versions.to_runtime().canary.unwrap().1, partitions);
    assert_eq!(versions.roll_back(None, 3), Ok(1));
    assert_eq!(numbers(&versions), (1, None, None));
    versions.try_out(content("b"), partitions, 4).unwrap();
    assert_eq!(versions.promote(5), Ok(2));
    assert_eq!(numbers(&versions), (2, Some(1), None));
}

#[test]
fn a_version_that_crashed_says_so_and_is_not_returned_to() {
    let mut versions = Versions::first(content("a"), 1);
    versions.deploy(content("b"), 2);
    let (previous, until_ms) = versions.to_runtime().previous.unwrap();
    assert_eq!((previous.number, until_ms), (1, 2 + PROBATION_MS));
    assert!(versions.taken_back(2, 1, "trap", 3));
    assert!(!versions.taken_back(2, 1, "trap", 4), "the other stages say it, too");
    assert_eq!(numbers(&versions), (1, None, None));
    let taken_back = Some(TakenBack { at_ms: 3, reason: "trap".to_owned() });
    assert_eq!(versions.version(2).unwrap().taken_back, taken_back);
    versions.deploy(content("b"), 5);
    assert_eq!(versions.version(2).unwrap().taken_back, None);
}

/// Symptom: after `plugin limits --set` a new version that crashed was not taken back for the one before, and a canary was
/// gone. Cause: other limits are another version, and the way back led to the same code with the old ones. Fix: where
/// only limits change, the way back and the canary stay.
#[test]
fn other_limits_leave_the_way_back_and_the_canary() {
    let limited = |hash: &str, call_timeout_ms| Content {
        limits: PluginLimits { call_timeout_ms, ..PluginLimits::default() },
        ..content(hash)
    };
    let mut versions = Versions::first(content("a"), 1);
    versions.deploy(content("b"), 2);
    versions.try_out(content("c"), BTreeSet::from([0]), 3).unwrap();
    assert_eq!(versions.change_limits(limited("b", 7), 4), 4);
    assert_eq!(numbers(&versions), (4, Some(1), Some(3)));
    assert_eq!(versions.to_runtime().previous.unwrap().1, 2 + PROBATION_MS);
    assert_eq!(versions.change_limits(limited("b", 7), 5), 4, "they are as they were");
    assert_eq!(numbers(&versions), (4, Some(1), Some(3)));
    // A file that differs in limits does the same, and so does a rollback that undoes them.
    versions.apply(limited("b", 8), 6);
    assert_eq!(numbers(&versions), (5, Some(1), Some(3)));
    assert_eq!(versions.roll_back(Some(2), 7), Ok(2));
    assert_eq!(numbers(&versions), (2, Some(1), Some(3)));
    assert!(versions.taken_back(2, 1, "trap", 8));
    assert_eq!(numbers(&versions), (1, None, Some(3)));
    // Where there is no way back to other code, or not any more, new limits can be gone back from.
    versions.change_limits(limited("a", 7), 9);
    assert_eq!(numbers(&versions), (6, Some(1), Some(3)));
    assert_eq!((versions.roll_back(Some(1), 10), versions.previous), (Ok(1), Some(6)));
    versions.deploy(content("d"), 11);
    assert_eq!(numbers(&versions), (7, Some(1), None), "another component ends the canary");
    versions.change_limits(limited("d", 7), 11 + PROBATION_MS);
    assert_eq!(numbers(&versions), (8, Some(7), None));
    assert_eq!(versions.active_since_ms, 11 + PROBATION_MS);
    // The canary has become the active version.
    versions.try_out(limited("d", 9), BTreeSet::from([0]), 12 + PROBATION_MS).unwrap();
    assert_eq!(versions.change_limits(limited("d", 9), 13 + PROBATION_MS), 9);
    assert_eq!(versions.canary, None);
}

#[test]
fn old_versions_are_forgotten_and_what_runs_is_not() {
    let mut versions = Versions::first(content("0"), 0);
    for number in 1..100 {
        versions.deploy(content(&number.to_string()), number);
    }
    assert_eq!(versions.versions.len(), VERSIONS_MAX);
    assert_eq!(numbers(&versions), (100, Some(99), None));
    assert_eq!(versions.deploy(content("new"), 100), 101);
}

#[test]
fn other_grants_are_another_version() {
    let mut versions = Versions::first(content("a"), 1);
    versions.apply(Content { grants: secrets(&["token"]), ..content("a") }, 2);
    assert_eq!(numbers(&versions), (2, Some(1), None));
    assert_eq!(versions.to_runtime().active.grants, secrets(&["token"]));
    assert_eq!(versions.to_runtime().previous.unwrap().0.grants, Grants::default());
    // Those of the version that is gone back to come with it.
    assert_eq!(versions.roll_back(None, 3), Ok(1));
    assert_eq!(versions.to_runtime().active.grants, Grants::default());
    assert_eq!(versions.roll_back(Some(2), 4), Ok(2));
}

#[test]
fn what_a_file_has_withdrawn_comes_back_by_nothing() {
    let mut versions = Versions::first(Content { grants: secrets(&["token"]), ..content("a") }, 1);
    versions.deploy(Content { grants: secrets(&["token"]), ..content("b") }, 2);
    let partitions = BTreeSet::from([0]);
    versions.try_out(Content { grants: secrets(&["token"]), ..content("c") }, partitions, 3).unwrap();
    versions.apply(content("b"), 4);
    // Neither by a crash, nor by a promotion, nor by hand.
    assert_eq!(numbers(&versions), (4, None, None));
    assert_eq!(versions.to_runtime().previous, None);
    let withdrawn = VersionError::Withdrawn { number: 1, grants: vec!["secret token".to_owned()] };
    assert_eq!(versions.roll_back(Some(1), 5), Err(withdrawn.clone()));
    assert!(withdrawn.to_string().contains("secret token"), "{withdrawn}");
    assert_eq!(versions.promote(6), Err(VersionError::NoCanary));
    // Also if nothing else has changed.
    versions.apply(Content { grants: secrets(&["token"]), ..content("b") }, 7);
    versions.roll_back(Some(4), 8).unwrap();
    assert_eq!(versions.previous, Some(2));
    versions.apply(content("b"), 9);
    assert_eq!(numbers(&versions), (4, None, None));
    // Granted again, it may.
    versions.apply(Content { grants: secrets(&["other", "token"]), ..content("b") }, 10);
    assert_eq!(versions.roll_back(Some(1), 11), Ok(1));
}

#[test]
fn a_version_waits_and_is_approved() {
    let mut versions = Versions::first(Content { grants: secrets(&["a"]), ..content("a") }, 1);
    let runs = versions.to_runtime();
    assert_eq!(versions.approve(None, &secrets(&["b"]), 2), Err(VersionError::NoneWaits));
    let wanted = Content { grants: secrets(&["a"]), ..content("b") };
    assert_eq!(versions.wait(wanted.clone(), needs(), None, 2), 2);
    assert_eq!(versions.wait(wanted, needs(), None, 3), 2, "the same waits already");
    assert_eq!(versions.to_runtime(), runs, "nothing that runs has changed");
    assert_eq!(versions.roll_back(Some(2), 3), Err(VersionError::Waits(2)));
    // A newer one takes its place, and never its number.
    assert_eq!(versions.wait(content("c"), needs(), None, 4), 3);
    let another = Err(VersionError::AnotherWaits { asked: 2, waits: 3 });
    assert_eq!(versions.approve(Some(2), &secrets(&["b"]), 5), another);
    assert_eq!(versions.reject(Some(2)), another);
    // Others are deployed meanwhile.
    assert_eq!(versions.deploy(Content { grants: secrets(&["a"]), ..content("d") }, 6), 4);
    assert_eq!(versions.approve(Some(3), &secrets(&["b"]), 7), Ok(3));
    assert_eq!((numbers(&versions), &versions.waiting), ((3, Some(4), None), &None));
    let active = versions.active();
    assert_eq!((active.sha256.as_str(), &active.grants, active.deployed_ms), ("c", &secrets(&["a", "b"]), 7));
    let order: Vec<u32> = versions.versions.iter().map(|version| version.number).collect();
    assert_eq!(order, [1, 3, 4]);
    // What was approved counts until a file is applied.
    assert_eq!((versions.roll_back(None, 8), versions.roll_back(None, 9)), (Ok(4), Ok(3)));
    versions.apply(Content { grants: secrets(&["a"]), ..content("c") }, 10);
    assert_eq!(numbers(&versions), (5, None, None));
    assert!(matches!(versions.roll_back(Some(3), 11), Err(VersionError::Withdrawn { .. })));
}

#[test]
fn a_version_that_was_to_be_tried_is_tried_when_it_is_approved() {
    let mut versions = Versions::first(content("a"), 1);
    let partitions = BTreeSet::from([0, 2]);
    versions.wait(content("b"), needs(), Some(partitions.clone()), 2);
    assert_eq!(versions.approve(None, &secrets(&["s"]), 3), Ok(2));
    assert_eq!((numbers(&versions), versions.active_since_ms), ((1, None, Some(2)), 1));
    let (tried, on) = versions.to_runtime().canary.unwrap();
    assert_eq!((tried.grants, on), (secrets(&["s"]), partitions));
    assert_eq!(versions.promote(4), Ok(2));
    assert_eq!(numbers(&versions), (2, Some(1), None));
    // Deployed once more, it is to run everywhere.
    versions.wait(content("c"), needs(), Some(BTreeSet::from([0])), 5);
    versions.wait(content("c"), needs(), None, 6);
    versions.approve(None, &secrets(&["s"]), 7).unwrap();
    assert_eq!(versions.canary, None);
}

#[test]
fn an_approval_does_not_bring_back_what_was_withdrawn_while_it_was_waited_for() {
    let mut versions = Versions::first(Content { grants: secrets(&["a"]), ..content("a") }, 1);
    versions.wait(Content { grants: secrets(&["a"]), ..content("b") }, needs(), None, 2);
    versions.apply(content("a"), 3);
    versions.approve(None, &secrets(&["b"]), 4).unwrap();
    assert_eq!(versions.active().grants, secrets(&["b"]));
}

#[test]
fn what_is_rejected_is_remembered_and_its_number_is_not_given_again() {
    let mut versions = Versions::first(content("a"), 1);
    assert_eq!(versions.reject(None), Err(VersionError::NoneWaits));
    versions.wait(content("b"), needs(), None, 2);
    assert_eq!(versions.reject(None), Ok(2));
    assert_eq!((&versions.rejections, &versions.waiting), (&["b".to_owned()].into(), &None));
    assert_eq!(versions.wait(content("b"), needs(), None, 3), 3);
    assert_eq!(versions.found("b"), Found::Settled, "it is asked for once more");
    // The file has granted what it needs.
    versions.apply(Content { grants: secrets(&["b"]), ..content("b") }, 4);
    assert_eq!((versions.active, &versions.waiting), (4, &None));
}

/// Symptom: a component in the watched directory that nobody had approved ran after a restart, with what another one had
/// been granted. Cause: it was forgotten when the other took its place among what waits, and was new to the node that
/// started. Fix: what was taken from the directory last is kept with the versions.
#[test]
fn what_lies_in_the_watched_directory_is_taken_once() {
    let mut versions = Versions::first(content("a"), 1);
    assert_eq!(versions.found("x"), Found::New);
    assert!(versions.watch("x"));
    versions.wait(content("x"), needs(), None, 2);
    assert_eq!(versions.found("x"), Found::Settled);
    versions.wait(content("y"), needs(), None, 3);
    versions.approve(None, &secrets(&["s"]), 4).unwrap();
    let mut versions: Versions = serde_json::from_str(&serde_json::to_string(&versions).unwrap()).unwrap();
    let done = |versions: &Versions, hash: &str| match versions.found(hash) {
        Found::Done(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert!(done(&versions, "x").contains("before what runs now"));
    assert_eq!((versions.found("y"), versions.found("z")), (Found::Settled, Found::New));
    // What crashed does not come back either.
    versions.watch("z");
    let number = versions.deploy(content("z"), 5);
    assert!(versions.taken_back(number, versions.previous.unwrap(), "trap", 6));
    assert!(done(&versions, "z").contains("crashed"));
    assert!(!versions.watch("z"));
    // Several are rejected, one after the other, and not for ever more of them.
    for number in 0..20 {
        versions.wait(content(&format!("r{number}")), needs(), None, 7);
        versions.reject(None).unwrap();
    }
    assert!(done(&versions, "r18").contains("rejected") && done(&versions, "r4").contains("rejected"));
    assert_eq!((versions.found("r3"), versions.rejections.len()), (Found::New, 16));
}

#[test]
fn grants_that_are_sent_have_limits() {
    let mut versions = Versions::first(content("a"), 1);
    versions.wait(content("b"), needs(), None, 2);
    let before = versions.clone();
    assert!(matches!(versions.approve(None, &secrets(&["a\nb"]), 3), Err(VersionError::Grants(_))));
    assert_eq!(versions, before);
}

#[test]
fn limits_are_changed_by_name() {
    let changes = serde_json::json!({"call_timeout_ms": 7});
    let changed = content("a").with_limits(changes.as_object().unwrap()).unwrap();
    assert_eq!(changed.limits, PluginLimits { call_timeout_ms: 7, ..PluginLimits::default() });
    let changes = serde_json::json!({"calls": 7});
    let refused = content("a").with_limits(changes.as_object().unwrap());
    assert!(matches!(refused, Err(VersionError::Limits(text)) if text.contains("unknown field `calls`")));
}

#[test]
fn versions_from_before_they_had_grants_get_those_of_the_file() {
    let old = r#"{"versions": [
        {"number": 1, "sha256": "a", "config": null, "limits": {}, "deployed_ms": 1, "taken_back": null},
        {"number": 7, "sha256": "b", "config": null, "limits": {}, "deployed_ms": 2, "taken_back": null}
    ], "active": 7, "active_since_ms": 2, "previous": 1, "canary": null}"#;
    let mut versions: Versions = serde_json::from_str(old).unwrap();
    versions.adopt(&secrets(&["token"]));
    versions.adopt(&secrets(&["later"]));
    let runs = versions.to_runtime();
    assert_eq!(
        (runs.active.grants, runs.previous.unwrap().0.grants),
        (secrets(&["token"]), secrets(&["token"]))
    );
    // The file that was applied then is applied again: nothing changes.
    let same = Content { grants: secrets(&["token"]), ..content("b") };
    let before = versions.clone();
    versions.apply(same, 3);
    assert_eq!(versions, before);
    assert_eq!(versions.deploy(Content { grants: secrets(&["token"]), ..content("c") }, 4), 8);
    let written: Versions = serde_json::from_str(&serde_json::to_string(&versions).unwrap()).unwrap();
    assert_eq!(written, versions);
}
