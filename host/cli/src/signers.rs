//! The file that says who must have signed what is deployed.
//!
//! ```toml
//! [[signers]]
//! namespace = "prod"      # absent: all namespaces that have no entry of their own
//! keys = ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
//! required = 1            # of them; absent: all
//! ```

use std::{collections::BTreeSet, path::Path};

use relive_core::Namespace;
use relive_engine::signers::{PublicKey, SignerPolicy, Signers};
use serde::Deserialize;

use crate::exit::{Exit, Failure};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    signers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    namespace: Option<String>,
    keys: Vec<String>,
    required: Option<usize>,
}

/// Reads the file.
pub fn of_file(path: &Path) -> Result<Signers, Failure> {
    let refused = |what: String| Failure::new(Exit::Usage, "invalid-config", format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| refused(format!("it cannot be read: {e}")))?;
    read(&text).map_err(refused)
}

fn read(text: &str) -> Result<Signers, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut namespaces = BTreeSet::new();
    let policy = |entry: Entry| {
        let namespace = entry.namespace.as_deref().map(Namespace::new).transpose().map_err(|e| e.to_string())?;
        let of = namespace.as_ref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
        if !namespaces.insert(namespace.clone()) {
            return Err(format!("there are two entries for {of}"));
        }
        let keys = entry.keys.iter().map(|key| key.parse()).collect::<Result<BTreeSet<PublicKey>, String>>()?;
        let required = entry.required.unwrap_or(keys.len());
        if required == 0 || required > keys.len() {
            return Err(format!("{required} of {} signers cannot be required for {of}", keys.len()));
        }
        Ok(SignerPolicy { namespace, keys, required })
    };
    file.signers.into_iter().map(policy).collect::<Result<_, _>>().map(Signers::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(read(""), Ok(Signers::default()));
        assert!(read(&format!("[[signers]]\nkeys = [\"{KEY}\"]")).is_ok());
        for (wrong, said) in [
            ("[[signers]]\nkeys = []".to_owned(), "0 of 0 signers"),
            (format!("[[signers]]\nkeys = [\"{KEY}\"]\nrequired = 2"), "2 of 1 signers"),
            ("[[signers]]\nkeys = [\"AAAA\"]".to_owned(), "has 3 bytes, not 32"),
            (format!("[[signers]]\nnamespace = \"a b\"\nkeys = [\"{KEY}\"]"), "namespace"),
            (format!("[[signers]]\nkeys = [\"{KEY}\"]\n[[signers]]\nkeys = [\"{KEY}\"]"), "two entries for all"),
            ("[[signer]]".to_owned(), "unknown field"),
        ] {
            let told = read(&wrong).expect_err(&wrong);
            assert!(told.contains(said), "{told}");
        }
    }
}
