//! `millstream plugin inspect`: what a WebAssembly file is, and whether a stage could run it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use millstream_runtime::engine::{Contract, PluginForm};
use millstream_runtime::grants::Capability;
use serde::Serialize;

use super::compile;
use crate::cli::failure::Failure;
use crate::cli::node_args::PluginInspectArgs;
use crate::cli::output::{Output, human_bytes};
use crate::signature::{Signature, SignatureError, TrustedKeys, read_beside, signature_path};

/// What a node would find.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    file: PathBuf,
    bytes: usize,
    sha256: String,
    form: PluginForm,
    /// None of a module of Redpanda's.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<Contract>,
    /// Interfaces that it imports and not everybody may.
    needs: BTreeSet<Capability>,
    /// Of the file beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<SignatureFindings>,
}

#[derive(Debug, Serialize)]
struct SignatureFindings {
    /// The key's id.
    key: String,
    /// What a list of trusted keys calls it; none if it was not held against one.
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_as: Option<String>,
}

impl Findings {
    /// Of these bytes, which are in `file`, or will be. The error says why a node would refuse them.
    pub(super) fn of(file: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let plugin = compile::load(file, bytes)?;
        Ok(Self {
            file: file.to_owned(),
            bytes: bytes.len(),
            sha256: crate::node::plugin_hash(bytes),
            form: plugin.form(),
            contract: plugin.contract(),
            needs: plugin.needs().clone(),
            signature: None,
        })
    }

    /// Looks at the signature beside the file. With a list of trusted keys there must be one, of one of them.
    fn with_signature(mut self, keys: Option<&Path>) -> Result<Self, Failure> {
        let failed =
            |error: SignatureError| Failure::Plugin { path: self.file.clone(), reason: error.to_string() };
        let trusted = keys.map(TrustedKeys::read).transpose().map_err(|error| failed(error.into()))?;
        let text = read_beside(&self.file)
            .map_err(|source| Failure::Input { path: signature_path(&self.file), source })?;
        let signature = text.map(|text| Signature::parse(&text)).transpose().map_err(failed)?;
        let trusted_as = match (&signature, &trusted) {
            (None, None) => None,
            (Some(signature), None) => signature.check_file(&self.sha256).map(|()| None).map_err(failed)?,
            (None, Some(_)) => return Err(failed(SignatureError::Missing)),
            (Some(signature), Some(trusted)) => {
                Some(signature.verify(&self.sha256, trusted).map_err(failed)?.to_owned())
            }
        };
        self.signature =
            signature.map(|signature| SignatureFindings { key: signature.key().to_string(), trusted_as });
        Ok(self)
    }

    /// `what` is how the plugin is called where this is shown.
    pub(super) fn show(&self, what: &str, output: &mut Output) -> Result<(), Failure> {
        if output.json() {
            return output.document(self);
        }
        let Self { file, bytes, sha256, form, contract, needs, signature } = self;
        let contract = match contract {
            Some(Contract::V0_1) => " of contract 0.1",
            Some(Contract::V0_2) => " of contract 0.2",
            None => "",
        };
        let (role, user) = match form {
            PluginForm::Run => ("a source or sink", "sources and sinks have"),
            _ => ("a transform", "stages provide"),
        };
        output.line(format_args!("{what}: {role}, in the form {}{contract}", form_name(*form)))?;
        let size = human_bytes(u64::try_from(*bytes).unwrap_or(u64::MAX));
        output.line(format_args!("  {}: {size} ({bytes} bytes), sha-256 {sha256}", file.display()))?;
        match signature {
            Some(SignatureFindings { key, trusted_as: Some(name) }) => {
                output.line(format_args!("  signed by {name}, with the key {key}"))?;
            }
            Some(SignatureFindings { key, trusted_as: None }) => {
                output.line(format_args!("  signed with the key {key}, not checked: pass --keys"))?;
            }
            None => {}
        }
        if needs.is_empty() {
            return output.line(format_args!("  every import is one that {user}"));
        }
        let needs: Vec<&str> = needs.iter().map(|need| need.interface()).collect();
        output.line(format_args!("  imports what its place and its grants must allow: {}", needs.join(", ")))
    }
}

/// The interface that the component exports; of a module, whose ABI it is.
fn form_name(form: PluginForm) -> &'static str {
    match form {
        PluginForm::TransformBatch => "transform-batch",
        PluginForm::Transform => "transform",
        PluginForm::Run => "run",
        PluginForm::RedpandaTransform => "redpanda-transform",
    }
}

pub(super) fn run(args: &PluginInspectArgs, output: &mut Output) -> Result<(), Failure> {
    // The address of a node is taken, as everywhere, and not needed.
    let PluginInspectArgs { connection: _, file, keys } = args;
    let bytes = fs::read(file).map_err(|source| Failure::Input { path: file.clone(), source })?;
    Findings::of(file, &bytes)?.with_signature(keys.as_deref())?.show(&file.display().to_string(), output)
}
