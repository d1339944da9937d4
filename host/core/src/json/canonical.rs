//! The canonical bytes of a JSON text: what commands are compared by and fingerprints are made of.

use super::parse::{Node, parse};

/// Canonical bytes of a text that was checked before; a text that was not stands for itself.
pub(super) fn canonical(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    match parse(text) {
        Ok(node) => write(&node, &mut out),
        Err(_) => out.extend_from_slice(text.as_bytes()),
    }
    out
}

fn write(node: &Node<'_>, out: &mut Vec<u8>) {
    match node {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Bool(true) => out.extend_from_slice(b"true"),
        Node::Bool(false) => out.extend_from_slice(b"false"),
        Node::Number(number) => number.write(out),
        Node::String(text) => write_string(text, out),
        Node::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Node::Object(members) => {
            out.push(b'{');
            for (n, (key, value)) in members.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use crate::json::Json;
    use proptest::prelude::*;

    fn check(a: &str, b: &str, same: bool) {
        let a = Json::parse(a).expect("valid");
        let b = Json::parse(b).expect("valid");
        assert_eq!(a.same_value(b.as_str()), same, "{a} {b}");
    }

    #[test]
    fn values_are_compared_not_texts() {
        check(r#"{"a":1,"b":2}"#, r#" { "b" : 2e0, "a" : 1.0 } "#, true);
        check("-0", "0.000", true);
        check("1e2", "100", true);
        check("12.50", "125e-1", true);
        check("0.1", "0.10000000000000000001", false);
        check("10000000000000000001", "10000000000000000002", false);
        check(r#""\u0041\n""#, r#""A\u000a""#, true);
        check(r#""\ud83d\ude00""#, "\"😀\"", true);
        check("[1,2]", "[2,1]", false);
        check("1", "-1", false);
        check("1", "\"1\"", false);
    }

    #[test]
    fn what_readers_would_disagree_on_is_refused() {
        let refused = |text: &str, at: usize| assert_eq!(Json::parse(text).expect_err(text).at, at, "{text}");
        refused(r#"{"a":1,"a":2}"#, 7);
        refused(r#"{"a":1,"\u0061":2}"#, 7);
        refused(r#""\ud800""#, 1);
        refused(r#""\udc00\ud800""#, 1);
        refused(r#""\ud800\u0041""#, 1);
        refused("01", 0);
        refused("1e99999999999", 0);
        refused("", 0);
        refused("[1,]", 3);
        refused("nul", 0);
        refused("1 2", 2);
        refused("\"\u{1}\"", 1);
        refused("{\"a\" 1}", 5);
        refused("\"\\u12", 3);
        refused("\"\\", 2);
        assert!(Json::parse(&("[".repeat(129) + &"]".repeat(129))).is_ok());
        assert!(Json::parse(&("[".repeat(200_000))).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in "[\\[\\]{}:,\"a0-9.eE+\\-\\\\ntu ]{0,24}") {
            let ours = Json::parse(&text);
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            if ours.is_ok() { prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok()); }
            if theirs.is_ok() && !text.contains('{') { prop_assert!(ours.is_ok(), "{:?}", ours); }
        }

        #[test]
        fn canonical_form_is_a_fixed_point(text in "[\\[\\]{}:,\"a0-9.eE+\\- ]{0,24}") {
            if let Ok(json) = Json::parse(&text) {
                let canonical = String::from_utf8(json.canonical()).expect("utf-8");
                let again = Json::parse(&canonical).expect("canonical is JSON");
                prop_assert_eq!(again.canonical(), json.canonical());
                prop_assert!(json.same_value(&canonical));
            }
        }
    }
}
