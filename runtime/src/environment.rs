//! What the operator of a node lends to plugins: secrets, files, and the way out to other hosts. Pipelines grant parts of it by name, and
//! the node's configuration says where it lies.

mod beneath;
mod files;
mod secrets;

use std::path::PathBuf;

pub use files::{FileDirs, FileError};
pub use secrets::{Secret, SecretError, SecretsDir};

use crate::grants::Grants;
use crate::http::HttpClient;

/// See the module. Clones are the same.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(crate) secrets: SecretsDir,
    pub(crate) files: FileDirs,
    pub(crate) http: HttpClient,
}

/// What is wrong with something that is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantProblem {
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
    /// It works all the same.
    pub(crate) is_warning: bool,
}

impl Environment {
    /// `secrets` is the directory of the secrets; `files` are those that granted files may lie in.
    pub fn new(secrets: Option<PathBuf>, files: Vec<PathBuf>) -> Self {
        let http = HttpClient::default();
        Self { secrets: SecretsDir::new(secrets), files: FileDirs::new(files), http }
    }

    /// With another way to send requests than the default.
    #[must_use]
    pub fn with_http(self, http: HttpClient) -> Self {
        Self { http, ..self }
    }

    /// Whether everything that is granted is there.
    pub(crate) fn check(&self, grants: &Grants) -> Vec<GrantProblem> {
        let mut problems = Vec::new();
        let mut add = |message, remedy, is_warning| {
            problems.push(GrantProblem { message, remedy, is_warning });
        };
        for name in &grants.secrets {
            match self.secrets.is_private(name) {
                Ok(true) => {}
                Ok(false) => add(
                    format!("the file of secret {name:?} can be read by others than its owner"),
                    "set its mode to 0600",
                    true,
                ),
                Err(error) => add(format!("secret {name:?}: {error}"), error.remedy(), false),
            }
        }
        for (name, path) in &grants.files {
            if let Err(error) = self.files.open(path) {
                add(format!("file {name:?}: {error}"), error.remedy(), false);
            }
        }
        problems
    }
}

impl Default for Environment {
    /// Nothing at all.
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}
