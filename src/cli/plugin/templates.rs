//! What `millstream plugin new` writes: files that this binary carries.

use std::fmt;

use clap::ValueEnum;

/// Folders of files, each a path and a text, as `build/templates.rs` gathers them: for each language one for any role
/// and one for each, `roles` in whatever language, `worlds` of the contract, `wit` (the contract) and `sdk` (the Rust SDK).
const FOLDERS: &[(&str, &[(&str, &str)])] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));
/// What the plugin of the templates is called.
const PLACEHOLDER: &str = "my-plugin";
/// What a README says of the language; a template, and no file of a project.
const NOTES: &str = "NOTES.md";
/// Longest name of a plugin: topics and files are called after it.
const NAME_CHARS_MAX: usize = 64;

/// The languages that there is a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
    C,
    Go,
}

/// What a plugin is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Maps records of topics to records of topics
    Transform,
    /// Makes records, and remembers where it was
    Source,
    /// Polls records as a member of a consumer group, and commits them
    Sink,
}

impl Role {
    fn folder(self) -> &'static str {
        match self {
            Self::Transform => "transform",
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }

    /// The world of the contract that its plugin is compiled for, where a language names one; a template's own for those
    /// that import more than their role alone.
    fn world(self) -> &'static str {
        match self {
            Self::Transform => "transformer",
            Self::Source | Self::Sink => "plugin",
        }
    }

    /// Where the bindings for Go want the plugin to be.
    fn package(self) -> &'static str {
        match self {
            Self::Transform => "export_millstream_plugin_transform",
            Self::Source | Self::Sink => "export_millstream_plugin_run",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

impl Language {
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
            Self::Go => "go",
        }
    }

    fn folders(self, role: Role) -> Vec<String> {
        let of = |group: &str| format!("{group}/{}", role.folder());
        let mut folders = vec![of("roles"), format!("{}/any", self.folder()), of(self.folder())];
        match (self, role) {
            // The SDK has the contract.
            (Self::Rust, _) => folders.push("sdk".to_owned()),
            (_, Role::Transform) => folders.push("wit".to_owned()),
            (_, Role::Source | Role::Sink) => folders.extend(["wit".to_owned(), of("worlds")]),
        }
        folders
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
            Self::Go => "Go",
        })
    }
}

/// The name of a plugin: what files, topics and a package of any language can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewName(String);

impl NewName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for NewName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts_are_words = text.split('-').all(|part| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        let begins_with_a_letter = text.starts_with(|first: char| first.is_ascii_lowercase());
        match parts_are_words && begins_with_a_letter && text.len() <= NAME_CHARS_MAX {
            true => Ok(Self(text.to_owned())),
            false => Err(
                "use at most 64 lower-case letters, digits and single hyphens, a letter first, like my-filter",
            ),
        }
    }
}

/// The files of a new project: paths in it, and texts.
pub(super) fn files(language: Language, role: Role, name: &NewName) -> Vec<(&'static str, String)> {
    let folder = |wanted: &String| {
        let mut found = FOLDERS.iter().filter(move |(folder, _)| folder == wanted);
        found.next().map(|(_, files)| *files).expect("the build embeds a folder for each of these")
    };
    let folders = language.folders(role);
    let all: Vec<(&str, &str)> = folders.iter().flat_map(folder).copied().collect();
    let notes = all.iter().find(|(path, _)| *path == NOTES).map_or("", |(_, text)| text.trim_end());
    let language = language.to_string();
    let filled = |text: &str| {
        let text = text.replace("{notes}", notes);
        let text = text.replace("{language}", &language).replace("{package}", role.package());
        text.replace("{world}", role.world()).replace(PLACEHOLDER, name.as_str())
    };
    let files = all.into_iter().filter(|(path, _)| *path != NOTES);
    // The SDK's and the contract's texts have braces of their own.
    let is_template = |path: &str| !path.starts_with("millstream/") && !path.starts_with("wit/");
    files.map(|(path, text)| (path, if is_template(path) { filled(text) } else { text.to_owned() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_in_every_language() {
        let long = "a".repeat(NAME_CHARS_MAX + 1);
        for bad in ["", "-", "a-", "-a", "a--b", "A", "a_b", "a.b", "../a", "1a", "ä", "a b", long.as_str()]
        {
            assert!(bad.parse::<NewName>().is_err(), "{bad:?}");
        }
        for good in ["a", "my-filter", "x2", "a-1"] {
            assert_eq!(good.parse::<NewName>().map(|name| name.0).as_deref(), Ok(good));
        }
    }

    #[test]
    fn each_language_has_what_the_commands_need_for_each_role() {
        for (language, role) in Language::value_variants()
            .iter()
            .flat_map(|language| Role::value_variants().iter().map(move |role| (*language, *role)))
        {
            let files = files(language, role, &NewName("other".to_owned()));
            let what = format!("{language}, {role}");
            for needed in ["plugin.toml", "pipeline.yaml", "README.md", ".gitignore", "cases/"] {
                assert!(files.iter().any(|(path, _)| path.starts_with(needed)), "{what}: {needed}");
            }
            let contract = files.iter().any(|(path, _)| path.ends_with("/types.wit"));
            assert!(contract, "{what}: the contract");
            for (path, text) in &files {
                for left in [PLACEHOLDER, "{notes}", "{language}", "{world}", "{package}"] {
                    assert!(!text.contains(left), "{what}: {path} has {left}");
                }
                assert_eq!(files.iter().filter(|(other, _)| other == path).count(), 1, "{what}: {path}");
            }
        }
    }
}
