//! The guests are there as the build script promises, and need nothing of their host that it does not offer.

use millstream_runtime::engine::{EngineConfig, PluginEngine, PluginForm};

const GUESTS: [(&str, &str); 9] = [
    (env!("GUEST_ACCESS_LOG_PARSER"), "transform-batch"),
    (env!("GUEST_ACCESS_LOG_ERRORS"), "transform-batch"),
    (env!("GUEST_FILTER"), "transform-batch"),
    (env!("GUEST_CSV_LINES"), "transform-batch"),
    (env!("GUEST_MASK"), "transform-batch"),
    (env!("GUEST_PSEUDONYMIZE"), "transform-batch"),
    (env!("GUEST_IDENTITY"), "transform-batch"),
    (env!("GUEST_IDENTITY_TYPED"), "transform"),
    (env!("GUEST_HOSTILE"), "transform-batch"),
];

const MODULES: [&str; 3] =
    [env!("GUEST_REDPANDA_IDENTITY"), env!("GUEST_REDPANDA_MAPPER"), env!("GUEST_REDPANDA_HOSTILE")];

/// A component's first bytes; a core module has version 1 and layer 0.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

#[test]
fn guests_are_components_of_the_contract() {
    for (path, form) in GUESTS {
        let guest = std::fs::read(path).unwrap();
        assert!(guest.starts_with(COMPONENT), "{path}");
        assert!(contains(&guest, &format!("millstream:plugin/{form}@0.2.0#transform")), "{path}");
        for denied in ["wasi:filesystem", "wasi:sockets", "wasi:http"] {
            assert!(!contains(&guest, denied), "{path} imports {denied}");
        }
    }
}

/// As their SDK and rustc make them, without our help.
#[test]
fn modules_of_redpandas_sdk_are_plugins() {
    let engine = PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() });
    for path in MODULES {
        let guest = std::fs::read(path).unwrap();
        assert!(guest.starts_with(MODULE), "{path}");
        assert!(contains(&guest, "check_abi_version_2"), "{path}");
        assert_eq!(engine.load(&guest).unwrap().form(), PluginForm::RedpandaTransform, "{path}");
    }
}

fn contains(guest: &[u8], name: &str) -> bool {
    guest.windows(name.len()).any(|window| window == name.as_bytes())
}

/// Each imports what it uses, so that little has to be granted.
#[test]
fn producers_and_consumers_import_what_they_use() {
    let engine = PluginEngine::new(EngineConfig { instances_max: 4, ..EngineConfig::default() });
    for (path, imported, others) in [
        (env!("GUEST_FILE_LINES"), &["producer", "positions", "files"][..], &["consumer", "secrets"][..]),
        (env!("GUEST_COUNTER"), &["producer", "consumer", "metrics"], &["positions", "files", "secrets"]),
        (env!("GUEST_WEBHOOK"), &["consumer", "secrets", "metrics"], &["producer", "positions", "files"]),
        (env!("GUEST_HTTP_POLL"), &["producer", "positions", "secrets"], &["consumer", "files"]),
    ] {
        let guest = std::fs::read(path).unwrap();
        assert_eq!(engine.load(&guest).unwrap().form(), PluginForm::Run, "{path}");
        let imports = |interface: &&str| contains(&guest, &format!("millstream:plugin/{interface}@0.2.0"));
        assert!(imported.iter().all(imports) && !others.iter().any(imports), "{path}");
        let calls = contains(&guest, "wasi:http/outgoing-handler@0.2.");
        assert_eq!(calls, path.ends_with("webhook.wasm") || path.ends_with("http_poll.wasm"), "{path}");
    }
}
