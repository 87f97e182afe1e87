//! Whether the kit leaves nothing of the contract out.

use std::collections::BTreeSet;

use serde::Deserialize;
use wit_parser::{Resolve, TypeDefKind};

use super::*;

/// What no case can make a host answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unreached {
    function: String,
    error: String,
    #[expect(dead_code, reason = "for whoever reads it")]
    why: String,
}

/// What a plugin may call or answer: functions as `INTERFACE.FUNCTION`, and the errors of each interface.
#[derive(Default)]
struct Contract {
    imported: BTreeSet<String>,
    exported: BTreeSet<String>,
    /// (interface, error).
    errors: BTreeSet<(String, String)>,
}

impl Contract {
    fn read() -> Self {
        let mut resolve = Resolve::default();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/wit/0.2");
        let (package, _) = resolve.push_dir(&dir).expect("the contract is well-formed");
        let mut contract = Self::default();
        for (name, interface) in &resolve.packages[package].interfaces {
            let interface = &resolve.interfaces[*interface];
            let is_exported = ["run", "transform", "transform-batch"].contains(&name.as_str());
            let functions = if is_exported { &mut contract.exported } else { &mut contract.imported };
            for function in interface.functions.keys() {
                // Of a resource: `[method]file.read`.
                let function = function.rsplit(']').next().unwrap_or(function);
                functions.insert(format!("{name}.{function}"));
            }
            for (type_name, id) in &interface.types {
                if let TypeDefKind::Variant(variant) = &resolve.types[*id].kind
                    && type_name.ends_with("error")
                {
                    contract
                        .errors
                        .extend(variant.cases.iter().map(|case| (name.clone(), case.name.clone())));
                }
            }
        }
        contract
    }
}

/// Calls of all cases, whatever they stand for.
fn calls(cases: &[Case]) -> impl Iterator<Item = &Value> {
    cases.iter().flat_map(|case| ["init", "calls", "last"].into_iter().flat_map(|kind| case.calls(kind)))
}

#[test]
fn the_kit_names_every_function_and_every_error_of_the_contract() {
    let contract = Contract::read();
    let cases = kit::cases();
    let called: BTreeSet<String> =
        calls(&cases).filter_map(|call| call["call"].as_str().map(str::to_owned)).collect();
    let called: BTreeSet<String> = called.into_iter().filter(|name| !name.starts_with("wasi.")).collect();
    assert_eq!(
        called, contract.imported,
        "add a case to sdk/conformance/cases for each function that is new"
    );

    let uses = |component: &str| cases.iter().any(|case| case.component == component && case.state.is_some());
    let exported = [
        "run.init",
        "run.run",
        "transform.init",
        "transform.transform",
        "transform-batch.init",
        "transform-batch.transform",
    ];
    assert_eq!(
        contract.exported,
        exported.map(str::to_owned).into(),
        "add a component to the kit that exports it"
    );
    assert!(["sink", "source", "typed", "batch"].into_iter().all(uses));

    let unreached: Vec<Unreached> = {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/conformance/unreached.yaml");
        serde_saphyr::from_str(&fs::read_to_string(file).expect("it is there")).expect("it is well-formed")
    };
    let interface = |function: &str| function.split('.').next().unwrap_or_default().to_owned();
    let answered = calls(&cases)
        .filter_map(|call| Some((interface(call["call"].as_str()?), call["err"].as_str()?.to_owned())));
    let mut reached: BTreeSet<(String, String)> = answered.collect();
    for unreached in unreached {
        assert!(contract.imported.contains(&unreached.function), "{unreached:?}: there is no such function");
        reached.insert((interface(&unreached.function), unreached.error));
    }
    // What plugins answer.
    let ends = |end: &str| cases.iter().any(|case| case.config["end"].get(end).is_some());
    let stops = |answer: &str| cases.iter().any(|case| !case.is_run() && case.config.get(answer).is_some());
    for error in ["retry", "stop"] {
        assert!(ends(error) && stops(error), "{error}");
        reached.extend([("run".to_owned(), error.to_owned()), ("types".to_owned(), error.to_owned())]);
    }
    assert_eq!(
        reached, contract.errors,
        "add a case for each error that is new, or say in unreached.yaml why there is none"
    );
}
