//! The table, loading and describing, as data and one call each.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

#[test]
fn the_table_is_sound() {
    for table in [TOPIC_CONFIGS, BROKER_CONFIGS] {
        let names: BTreeSet<_> = table.iter().map(|def| def.name).collect();
        assert_eq!(names.len(), table.len(), "a key is defined twice");
        for def in table {
            if let Some(default) = def.default {
                def.validate(default).unwrap();
            }
            assert!(def.doc.ends_with('.') && !def.doc.contains('\n'), "{}: {}", def.name, def.doc);
        }
    }
    for def in TOPIC_CONFIGS {
        for synonym in def.synonyms {
            let broker = BROKER_CONFIGS.iter().find(|broker| broker.name == synonym.name);
            let broker = broker.unwrap_or_else(|| panic!("{} falls back to {}", def.name, synonym.name));
            assert_eq!(broker.effect, def.effect, "{}", broker.name);
            // A broker that sets nothing gives its topics the topic key's default.
            if let Some(default) = broker.default {
                assert_eq!(Some(synonym.unit.convert(default).as_str()), def.default, "{}", def.name);
            }
        }
    }
}

/// Kafka 4.3's topic configurations, which tools expect to see.
#[test]
fn every_topic_configuration_of_kafka_is_known() {
    let names = "cleanup.policy compression.gzip.level compression.lz4.level compression.type \
        compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms \
        follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas \
        local.retention.bytes local.retention.ms max.compaction.lag.ms max.message.bytes \
        message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type \
        min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
        remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes \
        segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable";
    let known: BTreeSet<_> = TOPIC_CONFIGS.iter().map(|def| def.name).collect();
    assert_eq!(names.split_whitespace().collect::<BTreeSet<_>>(), known);
}

#[test]
fn topic_values_are_checked() {
    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<(), &str>) {
        let found = validate_topic_config(name, value).map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }
    check("retention.ms", "-1", Ok(()));
    check("retention.ms", " 7 ", Ok(()));
    check("cleanup.policy", "compact,delete", Ok(()));
    check("cleanup.policy", "", Ok(()));
    check("leader.replication.throttled.replicas", "0:1,1:2", Ok(()));
    check("leader.replication.throttled.replicas", "*", Ok(()));
    check("preallocate", "TRUE", Ok(()));
    let invalid = |name, value, reason| format!("invalid value {value:?} for configuration {name}: {reason}");
    let bad = |name, value, reason| check(name, value, Err(&invalid(name, value, reason)));
    bad("retention.ms", "-2", "the value must be at least -1");
    bad("retention.ms", "soon", "not a number of type long");
    bad("max.message.bytes", "3000000000", "not a number of type int");
    bad("compression.lz4.level", "18", "the value must be no more than 17");
    bad("min.cleanable.dirty.ratio", "1.5", "the value must lie between 0 and 1");
    bad("min.cleanable.dirty.ratio", "NaN", "the value must lie between 0 and 1");
    bad("cleanup.policy", "shred", "expected one of compact, delete");
    bad("cleanup.policy", "delete,delete", "\"delete\" is listed twice");
    bad("cleanup.policy", "delete,", "an entry of the list is empty");
    bad("message.timestamp.type", "createtime", "expected one of CreateTime, LogAppendTime");
    bad("leader.replication.throttled.replicas", "0-1", "expected * or partition:broker pairs");
    bad("preallocate", "yes", "expected true or false");
    check("retention.msec", "1", Err("unknown key \"retention.msec\"; did you mean \"retention.ms\"?"));
    check("colour", "1", Err("unknown key \"colour\""));
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<BrokerConfig, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    BrokerConfig::load(&Sources {
        file: Some((Path::new("server.properties"), file)),
        environment: environment.iter().map(owned).collect(),
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
    })
    .map_err(|e| e.to_string())
}

#[test]
fn flags_outrank_the_environment_outranks_the_file() {
    let environment = [("MILLSTREAM_CONFIG_NUM_PARTITIONS", "3"), ("PATH", "/bin")];
    let config =
        |file, environment: &[_], flags: &[_]| load(file, environment, flags).unwrap().num_partitions;
    assert_eq!(config("", &[], &[]), 1);
    assert_eq!(config("num.partitions=2", &[], &[]), 2);
    assert_eq!(config("num.partitions=2", &environment, &[]), 3);
    assert_eq!(config("num.partitions=2", &environment, &[("num.partitions", "4")]), 4);
}

#[test]
fn mistakes_are_located() {
    #[track_caller]
    fn check(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)], expected: &str) {
        assert_eq!(load(file, environment, flags).unwrap_err(), expected);
    }
    let unknown = "unknown key \"log.retenton.ms\"; did you mean \"log.retention.ms\"?";
    check("\n\nlog.retenton.ms=1", &[], &[], &format!("server.properties:3: {unknown}"));
    check(
        "",
        &[("MILLSTREAM_CONFIG_LOG_RETENTON_MS", "1")],
        &[],
        &format!("environment variable MILLSTREAM_CONFIG_LOG_RETENTON_MS: {unknown}"),
    );
    check("", &[], &[("log.retenton.ms", "1")], &format!("command line: {unknown}"));
    check("node.id=1\nnode.id=2", &[], &[], "server.properties:2: node.id is already set on line 1");
    check("a=\\u1", &[], &[], "server.properties:1: \\u needs four hexadecimal digits of a character");
    check(
        "node.id=1\nbroker.id=2",
        &[],
        &[],
        "server.properties:2: broker.id is \"2\", which differs from node.id",
    );
    check(
        "listeners=",
        &[],
        &[],
        "server.properties:1: listeners is \"\", which leaves the broker without a listener",
    );
    check(
        "listeners=SSL://:9093",
        &[],
        &[],
        "server.properties:1: invalid value \"SSL://:9093\" for configuration listeners: the security protocol \
         \"SSL\" is not served, only PLAINTEXT is",
    );
    check(
        "",
        &[],
        &[("admin.listener", "::1:9644")],
        "command line: invalid value \"::1:9644\" for configuration admin.listener: expected host:port",
    );
}

#[test]
fn addresses_and_directories() {
    let config =
        load("broker.id=7\nlisteners=PLAINTEXT://[::1]:9092,:9093", &[], &[("data.dir", "/d")]).unwrap();
    assert_eq!(config.node_id, 7);
    let listeners: Vec<_> = config.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(listeners, ["PLAINTEXT://[::1]:9092", "PLAINTEXT://:9093"]);
    assert_eq!(config.advertised(), config.listeners);
    assert_eq!(config.log_dir_paths(), [Path::new("/d/log-0"), Path::new("/d/log-1")]);
    let config = load("log.dirs=/a, /b", &[], &[]).unwrap();
    assert_eq!(config.log_dir_paths(), [Path::new("/a"), Path::new("/b")]);
}

#[test]
fn described_with_sources_and_synonyms() {
    let broker = load("log.retention.hours=2", &[], &[]).unwrap();
    let topic = |own: &[(&str, &str)]| {
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        describe_topic(&own, &broker).into_iter().find(|config| config.name == "retention.ms").unwrap()
    };
    let text = |config: DescribedConfig| {
        let synonyms: Vec<_> = config
            .synonyms
            .iter()
            .map(|s| format!("{}={} {:?}", s.name, s.value.as_deref().unwrap_or("null"), s.source))
            .collect();
        (config.value.unwrap(), config.source, synonyms.join("; "))
    };
    let default = "log.retention.hours=2 StaticBroker; log.retention.hours=168 Default";
    assert_eq!(text(topic(&[])), ("7200000".to_owned(), ConfigSource::StaticBroker, default.to_owned()));
    assert_eq!(
        text(topic(&[("retention.ms", "5")])),
        ("5".to_owned(), ConfigSource::DynamicTopic, format!("retention.ms=5 DynamicTopic; {default}"))
    );

    let described = describe_broker(&load("broker.id=4", &[], &[]).unwrap());
    assert_eq!(described.len(), BROKER_CONFIGS.len());
    let node_id = described.into_iter().find(|config| config.name == "node.id").unwrap();
    assert_eq!(
        text(node_id),
        (
            "4".to_owned(),
            ConfigSource::StaticBroker,
            "broker.id=4 StaticBroker; node.id=1 Default".to_owned()
        )
    );
}
