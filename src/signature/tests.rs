//! What is taken for signed, and what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::private_key::PrivateKeyError;
use super::*;

fn sha256(of: &str) -> String {
    hex(&Sha256::digest(of))
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

/// A list with these lines.
fn list(lines: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, lines).unwrap();
    (dir, path)
}

fn trusted(lines: &str) -> Result<TrustedKeys, KeysError> {
    TrustedKeys::read(&list(lines).1)
}

#[test]
fn a_component_is_signed_by_a_key_that_is_trusted() {
    let (ours, other) = (key(), key());
    let keys = trusted(&format!("# people\n{}\n  {}", ours.public_line("release"), other.public_line("x")));
    let keys = keys.unwrap();
    let signature = Signature::parse(ours.sign(&sha256("a")).to_text().as_bytes()).unwrap();
    assert_eq!(signature.verify(&sha256("a"), &keys), Ok("release"));
    assert_eq!(signature.verify(&sha256("b"), &keys), Err(SignatureError::OtherFile(sha256("a"))));
    // Taken off the list.
    let keys = trusted(&other.public_line("x")).unwrap();
    assert_eq!(signature.verify(&sha256("a"), &keys), Err(SignatureError::UnknownKey(ours.id())));
    // The signature of one key under the id of another.
    let forged = Signature { key: other.id(), ..signature };
    assert_eq!(forged.verify(&sha256("a"), &keys), Err(SignatureError::Wrong("x".to_owned())));
    // The file's hash is not what counts.
    let moved = Signature { sha256: sha256("b"), ..other.sign(&sha256("a")) };
    assert_eq!(moved.verify(&sha256("b"), &keys), Err(SignatureError::Wrong("x".to_owned())));
}

/// The order of the group, added to the second half, gives another signature that a lax check takes as well.
#[test]
fn a_signature_has_one_form() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let ours = key();
    let keys = trusted(&ours.public_line("release")).unwrap();
    let mut signature = ours.sign(&sha256("a"));
    let mut carry = 0;
    for (byte, order) in signature.bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(signature.verify(&sha256("a"), &keys), Err(SignatureError::Wrong("release".to_owned())));
}

#[test]
fn a_signature_is_read_as_it_is_written_and_not_otherwise() {
    let text = key().sign(&sha256("a")).to_text();
    assert_eq!(Signature::parse(text.as_bytes()).unwrap().to_text(), text);
    for end in 0..text.len() - 1 {
        assert!(Signature::parse(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
    let newer = text.replacen(": 1", ": 2", 1);
    assert_eq!(Signature::parse(newer.as_bytes()), Err(SignatureError::Format("2".to_owned())));
    let parse = |from: &str, to: &str| Signature::parse(text.replacen(from, to, 1).as_bytes());
    assert_eq!(parse("key: ", "key: X"), Err(SignatureError::Malformed { line: 2 }));
    assert_eq!(parse("sha256: ", "sha256: 0"), Err(SignatureError::Malformed { line: 3 }));
    assert_eq!(parse("==\n", "=\n"), Err(SignatureError::Malformed { line: 4 }));
    assert_eq!(parse("==\n", "==\nmore\n"), Err(SignatureError::Malformed { line: 5 }));
    assert_eq!(Signature::parse(b"\xff\xfe"), Err(SignatureError::Malformed { line: 1 }));
    let long = text + &" ".repeat(SIGNATURE_BYTES_MAX);
    assert!(matches!(Signature::parse(long.as_bytes()), Err(SignatureError::TooLarge(_))));
}

#[test]
fn a_list_of_keys_has_no_line_that_is_not_understood() {
    let line = key().public_line("a");
    let refused = |text: &str, line: usize, expect: &str| match trusted(text) {
        Err(KeysError::Line { line: found, reason, .. }) => {
            assert_eq!((found, reason.contains(expect)), (line, true), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(trusted("# nobody\n\n"), Ok(TrustedKeys::default()));
    refused("\nname", 2, "write NAME KEY");
    refused("a/b AAAA", 1, "a name has");
    refused("a AAAA", 1, "base64 of 32 bytes");
    refused(&format!("a {}", BASE64_STANDARD.encode([2; 32])), 1, "no Ed25519 public key");
    // The neutral element: with it everything is signed.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    refused(&format!("a {}", BASE64_STANDARD.encode(neutral)), 1, "weak");
    refused(&format!("{line}{}", key().public_line("a")), 2, "the name is there");
    refused(&format!("{line}{}", line.replacen('a', "b", 1)), 2, "the key is there");
    let many: String = (0..300).map(|number| key().public_line(&number.to_string())).collect();
    assert!(matches!(trusted(&many), Err(KeysError::TooMany { .. })));
    assert!(matches!(trusted(&"# \n".repeat(30_000)), Err(KeysError::TooMany { .. })));
    let absent = SignaturePolicy::new(Some("/absent/keys".into()));
    assert!(matches!(absent.check_keys(), Err(KeysError::Read { .. })));
}

#[test]
fn a_policy_asks_for_signatures_or_does_not() {
    let ours = key();
    let (_dir, path) = list(&ours.public_line("a"));
    let signature = ours.sign(&sha256("a"));
    let none = SignaturePolicy::new(None);
    assert_eq!((none.check(&sha256("b"), Some(&signature)), none.check_keys()), (Ok(()), Ok(())));
    let required = SignaturePolicy::new(Some(path.clone()));
    assert_eq!(required.check(&sha256("a"), Some(&signature)), Ok(()));
    assert_eq!(required.check(&sha256("a"), None), Err(SignatureError::Missing));
    // The list is read anew each time.
    fs::write(&path, "").unwrap();
    let refused = required.check(&sha256("a"), Some(&signature));
    assert_eq!(refused, Err(SignatureError::UnknownKey(ours.id())));
}

#[test]
fn a_private_key_is_its_owners_and_shows_nothing_of_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let ours = key();
    ours.write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ours.write(&path).is_err(), "no key is overwritten");
    let read = PrivateKey::read(&path).unwrap();
    assert_eq!(read.sign(&sha256("a")), ours.sign(&sha256("a")));
    let secret = fs::read_to_string(&path).unwrap();
    let secret = secret.lines().nth(1).unwrap().strip_prefix("key: ").unwrap();
    assert!(!format!("{ours:?}{}", ours.public_line("a")).contains(secret));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(PrivateKey::read(&path), Err(PrivateKeyError::Readable)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for text in ["", "millstream-signing-key: 2\nkey: AA==\n", "millstream-signing-key: 1\nkey: AA==\n"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(PrivateKey::read(&path), Err(PrivateKeyError::Malformed)), "{text:?}");
    }
}
