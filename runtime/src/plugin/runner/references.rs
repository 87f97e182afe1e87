//! Texts that stand for secrets: a plugin puts one into a header, and the host puts the secret in its place on the way
//! out. The plugin never has the secret.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};

use crate::environment::{Secret, SecretsDir};

/// The references of one instance; each granted secret has one at most. Those of another instance are texts.
#[derive(Default)]
pub(super) struct References(BTreeMap<String, String>);

impl References {
    /// The text that stands for a secret, which nobody can guess.
    pub(super) fn of(&mut self, name: &str) -> String {
        let made = || format!("secret-{}", uuid::Uuid::new_v4().simple());
        self.0.entry(name.to_owned()).or_insert_with(made).clone()
    }

    /// Puts secrets into the values of headers, and returns those that it put in. The error names the one that can't be
    /// had, or sent.
    pub(super) fn resolve(
        &self,
        headers: &mut HeaderMap,
        secrets: &SecretsDir,
    ) -> Result<Vec<Secret>, String> {
        let mut used = Vec::new();
        for (name, reference) in &self.0 {
            for value in headers.values_mut() {
                if find(value.as_bytes(), reference.as_bytes()).is_none() {
                    continue;
                }
                let secret = secrets.read(name).map_err(|error| format!("secret {name:?}: {error}"))?;
                let replaced = replace(value.as_bytes(), reference.as_bytes(), secret.as_bytes());
                let unfit = |_| format!("secret {name:?} has bytes that a header can't have");
                let mut replaced = HeaderValue::from_bytes(&replaced).map_err(unfit)?;
                replaced.set_sensitive(true);
                *value = replaced;
                used.push(secret);
            }
        }
        Ok(used)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn replace(mut text: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    while let Some(at) = find(text, part) {
        replaced.extend_from_slice(&text[..at]);
        replaced.extend_from_slice(by);
        text = &text[at + part.len()..];
    }
    replaced.extend_from_slice(text);
    replaced
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::environment::Environment;

    #[test]
    fn a_reference_becomes_its_secret_in_headers_and_those_of_others_stay_texts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "s3cret\n").unwrap();
        fs::write(dir.path().join("lines"), "a\nb").unwrap();
        let secrets = Environment::new(Some(dir.path().to_owned()), Vec::new()).secrets;
        let (mut mine, mut others) = (References::default(), References::default());
        let (reference, foreign) = (mine.of("token"), others.of("token"));
        assert_eq!(mine.of("token"), reference);
        assert_ne!(reference, foreign);
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| headers.append(name, value.parse().unwrap());
        put("authorization", format!("Bearer {reference}"));
        put("x-both", format!("{reference},{reference}!"));
        put("x-foreign", foreign.clone());
        put("x-plain", "secret-".to_owned());
        let used = mine.resolve(&mut headers, &secrets).unwrap();
        assert_eq!(used.len(), 2);
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x-both"], "s3cret,s3cret!");
        assert_eq!(headers["x-foreign"], foreign);
        assert_eq!(headers["x-plain"], "secret-");
        for (name, reason) in [("lines", "bytes that a header can't have"), ("absent", "No such file")] {
            let mut headers = HeaderMap::new();
            headers.insert("x", mine.of(name).parse().unwrap());
            let refused = mine.resolve(&mut headers, &secrets).unwrap_err();
            assert!(refused.contains(name) && refused.contains(reason), "{refused}");
        }
    }
}
