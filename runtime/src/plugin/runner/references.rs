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

    /// Puts secrets into the values of headers, and returns those that it put in, by name. The error names the one that
    /// can't be had, or sent: headers that would be longer than `bytes_max` with it are not made in the first place.
    pub(super) fn resolve(
        &self,
        headers: &mut HeaderMap,
        secrets: &SecretsDir,
        bytes_max: usize,
    ) -> Result<Vec<(&str, Secret)>, String> {
        let mut used = Vec::new();
        let mut size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        for (name, reference) in &self.0 {
            let reference = reference.as_bytes();
            let mut secret = None;
            for value in headers.values_mut() {
                let count = count(value.as_bytes(), reference);
                if count == 0 {
                    continue;
                }
                let secret = match &secret {
                    Some(secret) => secret,
                    None => {
                        let read = secrets.read(name).map_err(|error| format!("secret {name:?}: {error}"))?;
                        secret.insert(read)
                    }
                };
                let bytes = secret.as_bytes();
                size = (size - count * reference.len()).saturating_add(count.saturating_mul(bytes.len()));
                if size > bytes_max {
                    return Err(format!("with secret {name:?} the headers have more than {bytes_max} bytes"));
                }
                let unfit = |_| format!("secret {name:?} has bytes that a header can't have");
                let replaced = replace(value.as_bytes(), reference, bytes);
                let mut replaced = HeaderValue::from_bytes(&replaced).map_err(unfit)?;
                replaced.set_sensitive(true);
                *value = replaced;
            }
            used.extend(secret.map(|secret| (name.as_str(), secret)));
        }
        Ok(used)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn count(mut text: &[u8], part: &[u8]) -> usize {
    let mut count = 0;
    while let Some(at) = find(text, part) {
        count += 1;
        text = &text[at + part.len()..];
    }
    count
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
        let used = mine.resolve(&mut headers, &secrets, 1000).unwrap();
        let used: Vec<_> = used.iter().map(|(name, secret)| (*name, secret.as_bytes())).collect();
        assert_eq!(used, [("token", &b"s3cret"[..])]);
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x-both"], "s3cret,s3cret!");
        assert_eq!(headers["x-foreign"], foreign);
        assert_eq!(headers["x-plain"], "secret-");
        for (name, reason) in [("lines", "bytes that a header can't have"), ("absent", "No such file")] {
            let mut headers = HeaderMap::new();
            headers.insert("x", mine.of(name).parse().unwrap());
            let refused = mine.resolve(&mut headers, &secrets, 1000).unwrap_err();
            assert!(refused.contains(name) && refused.contains(reason), "{refused}");
        }
    }
    /// Else a header of references would become one of a hundred megabytes.
    #[test]
    fn what_headers_become_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "s".repeat(1000)).unwrap();
        let secrets = Environment::new(Some(dir.path().to_owned()), Vec::new()).secrets;
        let mut mine = References::default();
        let reference = mine.of("token");
        // Of a header's name, too.
        for (headers_of, count, is_fit) in [(1, 10, true), (10, 1, true), (1, 11, false), (11, 1, false)] {
            let mut headers = HeaderMap::new();
            for _ in 0..headers_of {
                headers.append("x", reference.repeat(count).parse().unwrap());
            }
            let resolved = mine.resolve(&mut headers, &secrets, 10_010);
            assert_eq!(resolved.as_ref().err().is_none(), is_fit, "{headers_of} {count}");
            let Err(reason) = resolved else { continue };
            assert_eq!(reason, "with secret \"token\" the headers have more than 10010 bytes");
            assert!(headers.values().all(|value| value.len() <= 10_000));
        }
    }
}
