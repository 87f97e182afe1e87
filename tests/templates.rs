//! The templates in C and Go carry the bindings of the contract, so that whoever uses them needs no generator. They are
//! those that the generators make of the contract as it is: `MILLSTREAM_UPDATE_TEMPLATES=1 cargo test --test templates`
//! writes them.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_parser::Resolve;

/// The templates' folders, and the world that each is compiled for.
const ROLES: [(&str, &str); 3] = [("transform", "transformer"), ("source", "plugin"), ("sink", "plugin")];

/// Holds what `generator` makes of the contract, with the world of each role, against what is in a language's templates.
/// `place` says in which folder a file is; none for those that the generator makes and the template has its own of.
fn check(language: &str, generator: fn() -> Box<dyn WorldGenerator>, place: fn(&str) -> Option<Place>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (role, world) in ROLES {
        let project = TempDir::new().expect("a temporary directory");
        copy(&root.join("sdk/wit/0.2"), project.path());
        let worlds = root.join("sdk/templates/worlds").join(role).join("wit");
        if worlds.exists() {
            copy(&worlds, project.path());
        }
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(project.path()).expect("the contract is well-formed");
        let world = resolve.select_world(&[package], Some(world)).expect("the contract has this world");
        let mut files = Files::default();
        generator().generate(&mut resolve, world, &mut files).expect("there are bindings for all of it");
        let kept: Vec<_> = files.iter().filter_map(|(name, made)| Some((name, made, place(name)?))).collect();
        assert!(kept.len() >= 2, "only {} files", kept.len());
        for (name, made, place) in kept {
            let folder = match place {
                Place::Role(folder) => format!("{role}/{folder}"),
                Place::Any => "any".to_owned(),
            };
            check_file(&root.join("sdk/templates").join(language).join(folder).join(name), made);
        }
    }
}

/// Where a file of the bindings is.
enum Place {
    /// In that folder of each role.
    Role(&'static str),
    /// The same for each.
    Any,
}

fn check_file(path: &Path, made: &[u8]) {
    if std::env::var_os("MILLSTREAM_UPDATE_TEMPLATES").is_some() {
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
        fs::write(path, made).expect("it can be written");
    }
    let kept = fs::read(path).unwrap_or_default();
    assert!(kept == made, "{} is not what the contract says: see the top of this file", path.display());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

#[test]
fn the_bindings_in_c_are_those_of_the_contract() {
    // Without the object file that would say what the module is to become: `plugin build` says it.
    check(
        "c",
        || wit_bindgen_c::Opts { no_object_file: true, ..Default::default() }.build(),
        |_| Some(Place::Role("bindings")),
    );
}

#[test]
fn the_bindings_in_go_are_those_of_the_contract() {
    // Unformatted, since the test needs no Go.
    check(
        "go",
        || wit_bindgen_go::Opts { format: wit_bindgen_go::Format::False, ..Default::default() }.build(),
        |name| match name {
            "go.mod" => None,
            name if name.starts_with("pkg/") => Some(Place::Any),
            _ => Some(Place::Role("")),
        },
    );
}
