//! What `millstream plugin new` writes: files that this binary carries.

use std::fmt;

use clap::ValueEnum;

/// Folders of files, each a path and a text, as `build/templates.rs` gathers them: one for each language, `common` to
/// all, `wit` (the contract) and `sdk` (the Rust SDK).
const FOLDERS: &[(&str, &[(&str, &str)])] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));
/// What the plugin of the templates is called.
const PLACEHOLDER: &str = "my-filter";
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

impl Language {
    fn folders(self) -> [&'static str; 3] {
        match self {
            // The SDK has the contract.
            Self::Rust => ["common", "rust", "sdk"],
            Self::Js => ["common", "js", "wit"],
            Self::Python => ["common", "python", "wit"],
            Self::C => ["common", "c", "wit"],
            Self::Go => ["common", "go", "wit"],
        }
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
pub(super) fn files(language: Language, name: &NewName) -> Vec<(&'static str, String)> {
    let folder = |wanted: &str| {
        let mut found = FOLDERS.iter().filter(move |(folder, _)| *folder == wanted);
        found.next().map(|(_, files)| *files).expect("the build embeds a folder for each of these")
    };
    let files = language.folders().into_iter().flat_map(folder);
    files.map(|(path, text)| (*path, text.replace(PLACEHOLDER, name.as_str()))).collect()
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
    fn each_language_has_what_the_commands_need() {
        for language in Language::value_variants() {
            let files = files(*language, &NewName("other".to_owned()));
            for needed in ["plugin.toml", "pipeline.yaml", "README.md", ".gitignore", "cases/filter.yaml"] {
                assert!(files.iter().any(|(path, _)| *path == needed), "{language}: {needed}");
            }
            let contract = files.iter().any(|(path, _)| path.ends_with("/types.wit"));
            assert!(contract, "{language}: the contract");
            for (path, text) in &files {
                assert!(!text.contains(PLACEHOLDER), "{language}: {path} is not called after the plugin");
                assert_eq!(files.iter().filter(|(other, _)| other == path).count(), 1, "{language}: {path}");
            }
        }
    }
}
