//! HTTP message signatures (RFC 9421) over a request's method, target, body digest (RFC 9530) and idempotency key.
//! Pure: the time is an argument.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest;

use super::key::SigningKey;

/// The headers that a signed request carries.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) content_digest: String,
    pub(super) signature_input: String,
    pub(super) signature: String,
}

/// Signs a POST of `body`. `idempotency_key` is the header's value, as it is sent; `created` is in seconds since the
/// Unix epoch.
pub(super) fn sign(key: &SigningKey, target_uri: &str, idempotency_key: &str, body: &[u8], created: u64) -> Signed {
    let digest = STANDARD.encode(digest::digest(&digest::SHA256, body));
    let content_digest = format!("sha-256=:{digest}:");
    let kid = key.kid();
    let parameters = format!(
        r#"("@method" "@target-uri" "content-digest" "idempotency-key");created={created};keyid="{kid}";alg="ed25519""#
    );
    let base = base(target_uri, &content_digest, idempotency_key, &parameters);
    let signature = STANDARD.encode(key.sign(base.as_bytes()));
    let (signature_input, signature) = (format!("relive={parameters}"), format!("relive=:{signature}:"));
    Signed { content_digest, signature_input, signature }
}

/// The signature base (RFC 9421, section 2.5): a line a component, without a newline at the end.
fn base(target_uri: &str, content_digest: &str, idempotency_key: &str, parameters: &str) -> String {
    format!(
        "\"@method\": POST\n\
         \"@target-uri\": {target_uri}\n\
         \"content-digest\": {content_digest}\n\
         \"idempotency-key\": {idempotency_key}\n\
         \"@signature-params\": {parameters}"
    )
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
        let signed = sign(&key, "https://example.com/a?b", "default:o-1:r:3", b"{\"a\":1}", 1_700_000_000);
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
    fn header_values_are_visible_ascii() {
        assert_eq!(header_value("default:order-1:0198:3"), "default:order-1:0198:3");
        assert_eq!(header_value("a b%ü\""), "a%20b%25%C3%BC\"");
    }
}
