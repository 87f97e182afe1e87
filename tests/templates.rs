//! The templates in C and Go carry the bindings of the contract, so that whoever uses them needs no generator. They are
//! those that the generators make of the contract as it is: `MILLSTREAM_UPDATE_TEMPLATES=1 cargo test --test templates`
//! writes them.

use std::fs;
use std::path::Path;

use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::Resolve;

const WORLD: &str = "transformer";

/// Holds what `generator` makes of the contract against what is in a folder of the templates. `is_ours` names the files
/// that it makes and the template has its own of.
fn check(mut generator: Box<dyn WorldGenerator>, folder: &str, is_ours: fn(&str) -> bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("sdk/wit/0.2")).expect("the contract is well-formed");
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the contract has this world");
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files).expect("there are bindings for all of it");
    let files: Vec<_> = files.iter().filter(|(name, _)| !is_ours(name)).collect();
    assert!(files.len() >= 2, "only {} files", files.len());
    for (name, made) in files {
        let path = root.join("sdk/templates").join(folder).join(name);
        if std::env::var_os("MILLSTREAM_UPDATE_TEMPLATES").is_some() {
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
            fs::write(&path, made).expect("it can be written");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(kept == made, "{} is not what the contract says: see the top of this file", path.display());
    }
}

#[test]
fn the_bindings_in_c_are_those_of_the_contract() {
    // Without the object file that would say what the module is to become: `plugin build` says it.
    let options = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    check(options.build(), "c/bindings", |_| false);
}

#[test]
fn the_bindings_in_go_are_those_of_the_contract() {
    // Unformatted, since the test needs no Go.
    let options = wit_bindgen_go::Opts { format: wit_bindgen_go::Format::False, ..Default::default() };
    check(options.build(), "go", |name| name == "go.mod");
}
