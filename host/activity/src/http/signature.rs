//! HTTP message signatures (RFC 9421) over a request's method, target, body digest (RFC 9530), idempotency key and
//! task token. Pure: the time is an argument.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest;

use super::key::SigningKey;

/// The header with the attempt's token.
pub(super) const TASK_TOKEN: &str = "relive-task-token";

/// The headers that a signed request carries.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) content_digest: String,
    pub(super) signature_input: String,
    pub(super) signature: String,
}

/// What is signed beside the body.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) target_uri: &'a str,
    /// The header's value, as it is sent.
    pub(super) idempotency_key: &'a str,
    /// The same; absent where nobody takes a later answer.
    pub(super) token: Option<&'a str>,
    /// In seconds since the Unix epoch.
    pub(super) created: u64,
}

/// Signs a POST of `body`.
pub(super) fn sign(key: &SigningKey, message: Message<'_>, body: &[u8]) -> Signed {
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
    let content_digest = format!("sha-256=:{digest}:");
    let Message { target_uri, idempotency_key, token, created } = message;
    let mut components = vec![
        ("@method", "POST"),
        ("@target-uri", target_uri),
        ("content-digest", content_digest.as_str()),
        ("idempotency-key", idempotency_key),
    ];
    components.extend(token.map(|token| (TASK_TOKEN, token)));
    let covered: Vec<String> = components.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let (covered, kid) = (covered.join(" "), key.kid());
    let parameters = format!(r#"({covered});created={created};keyid="{kid}";alg="ed25519""#);
    let base = base(&components, &parameters);
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    let (signature_input, signature) = (format!("relive={parameters}"), format!("relive=:{signature}:"));
    Signed { content_digest, signature_input, signature }
}

/// The signature base (RFC 9421, section 2.5): a line a component, without a newline at the end.
fn base(components: &[(&str, &str)], parameters: &str) -> String {
    let mut base: String = components.iter().map(|(name, value)| format!("\"{name}\": {value}\n")).collect();
    base.push_str("\"@signature-params\": ");
    base.push_str(parameters);
    base
}

/// A text as the value of a header: whatever is not visible ASCII, and `%` itself, as `%XX` of its bytes. Most texts
/// come out as they are.
pub(super) fn header_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(char::from(byte));
        } else {
            value.push_str(&format!("%{byte:02X}"));
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_signature_holds_for_what_was_sent_and_nothing_else() {
        let key = SigningKey::generate().expect("a key");
        let message = Message {
            target_uri: "https://example.com/a?b",
            idempotency_key: "default:o-1:r:3",
            token: None,
            created: 1_700_000_000,
        };
        let signed = sign(&key, message, b"{\"a\":1}");
        // The digest of this body, by `openssl dgst -sha256 -binary | base64`.
        assert_eq!(signed.content_digest, "sha-256=:AVq9f1zFei3ZS3WQ8ErYCEJzkF7jPsXOvq5iJ2qX+GI=:");
        let kid = key.kid();
        let lines = format!(
            "\"@method\": POST\n\"@target-uri\": https://example.com/a?b\n\"content-digest\": {}\n\"idempotency-key\": \
             default:o-1:r:3\n\"@signature-params\": (\"@method\" \"@target-uri\" \"content-digest\" \
             \"idempotency-key\");created=1700000000;keyid=\"{kid}\";alg=\"ed25519\"",
            signed.content_digest
        );
        let encoded = signed.signature.strip_prefix("relive=:").and_then(|s| s.strip_suffix(':')).expect("its form");
        let bytes = STANDARD.decode(encoded).expect("base64");
        let public = UnparsedPublicKey::new(&ED25519, key.public());
        public.verify(lines.as_bytes(), &bytes).expect("the signature holds");
        for other in [lines.replace("POST", "PUT"), lines.replace("o-1", "o-2"), lines.replace("/a", "/b")] {
            assert!(public.verify(other.as_bytes(), &bytes).is_err());
        }
    }

    #[test]
    fn a_token_is_signed_where_there_is_one() {
        let key = SigningKey::generate().expect("a key");
        let message = Message { target_uri: "https://a/", idempotency_key: "k", token: Some("1-2-3-4"), created: 1 };
        let signed = sign(&key, message, b"");
        let covered = r#"relive=("@method" "@target-uri" "content-digest" "idempotency-key" "relive-task-token");"#;
        assert!(signed.signature_input.starts_with(covered), "{}", signed.signature_input);
    }

    #[test]
    fn header_values_are_visible_ascii() {
        assert_eq!(header_value("default:order-1:0198:3"), "default:order-1:0198:3");
        assert_eq!(header_value("a b%ü\""), "a%20b%25%C3%BC\"");
    }
}
