//! The C template carries the bindings of the contract, so that whoever uses it needs no generator. They are those that
//! the generator makes of the contract as it is: `MILLSTREAM_UPDATE_TEMPLATES=1 cargo test --test templates` writes them.

use std::fs;
use std::path::Path;

use wit_bindgen_core::Files;
use wit_parser::Resolve;

const WORLD: &str = "transformer";

#[test]
fn the_bindings_in_c_are_those_of_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("sdk/wit/0.2")).expect("the contract is well-formed");
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the contract has this world");
    // Without the object file that would say what the module is to become: `plugin build` says it.
    let options = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files).expect("there are bindings in C for all of it");
    assert!(files.iter().count() >= 2, "a header and a source");
    for (name, made) in files.iter() {
        let path = root.join("sdk/templates/c/bindings").join(name);
        if std::env::var_os("MILLSTREAM_UPDATE_TEMPLATES").is_some() {
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
            fs::write(&path, made).expect("it can be written");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(kept == made, "{} is not what the contract says: see the top of this file", path.display());
    }
}
