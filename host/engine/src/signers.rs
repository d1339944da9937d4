//! Who must have signed what is deployed. A signature is over a statement of what is deployed under which name in which
//! namespace, so that it is good for nothing else; components are not looked at before the signatures are.
//!
//! ```text
//! relive deployment 1
//! kind workflow
//! namespace default
//! name order
//! digest 3f786850e387550fdab836ed7e6dc881de23001b5c0d3e1a6d9d2f1c1f0d4c77
//! ```

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use relive_core::{Digest, Error, ErrorKind, Namespace};
use ring::signature::{ED25519, UnparsedPublicKey};

/// What a component is deployed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Workflow,
    Activity,
}

/// The name of workflows that are deployed under the names that their component has for them.
pub const OWN_NAMES: &str = "*";

/// What is signed, line feeds included.
#[must_use]
pub fn statement(kind: Kind, namespace: &Namespace, name: Option<&str>, digest: &Digest) -> String {
    let kind = match kind {
        Kind::Workflow => "workflow",
        Kind::Activity => "activity",
    };
    let name = name.unwrap_or(OWN_NAMES);
    format!("relive deployment 1\nkind {kind}\nnamespace {namespace}\nname {name}\ndigest {digest}\n")
}

/// An Ed25519 public key: 32 bytes, in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PublicKey(pub [u8; 32]);

/// `ed25519 KEY SIGNATURE`, both in base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentSignature {
    pub key: PublicKey,
    pub signature: [u8; 64],
}

fn bytes<const N: usize>(text: &str, what: &str) -> Result<[u8; N], String> {
    let bytes = STANDARD.decode(text.trim()).map_err(|e| format!("{what} is no base64: {e}"))?;
    let length = bytes.len();
    bytes.try_into().map_err(|_| format!("{what} has {length} bytes, not {N}"))
}

impl FromStr for PublicKey {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text, "an Ed25519 public key").map(Self)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for DeploymentSignature {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("ed25519"), Some(key), Some(signature), None) => {
                Ok(Self { key: key.parse()?, signature: bytes(signature, "an Ed25519 signature")? })
            }
            _ => Err("a signature is `ed25519 KEY SIGNATURE`, both in base64".to_owned()),
        }
    }
}

impl std::fmt::Display for DeploymentSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ed25519 {} {}", self.key, STANDARD.encode(self.signature))
    }
}

/// Who must sign for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerPolicy {
    /// Absent: for all that have none of their own.
    pub namespace: Option<Namespace>,
    pub keys: BTreeSet<PublicKey>,
    /// So many of them; at least 1.
    pub required: usize,
}

/// The policies of a host; without one nobody needs to sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers(Arc<[SignerPolicy]>);

impl Signers {
    #[must_use]
    pub fn new(policies: Vec<SignerPolicy>) -> Self {
        Self(policies.into())
    }

    fn policy(&self, namespace: &Namespace) -> Option<&SignerPolicy> {
        let own = self.0.iter().find(|policy| policy.namespace.as_ref() == Some(namespace));
        own.or_else(|| self.0.iter().find(|policy| policy.namespace.is_none()))
    }

    /// Checks what came with a deployment. Returns the keys that signed, if any had to.
    pub(crate) fn check(
        &self,
        (kind, namespace, name): (Kind, &Namespace, Option<&str>),
        digest: &Digest,
        signatures: &[DeploymentSignature],
    ) -> Result<Option<Arc<str>>, Error> {
        let Some(policy) = self.policy(namespace) else { return Ok(None) };
        let statement = statement(kind, namespace, name, digest);
        let good = |s: &&DeploymentSignature| {
            UnparsedPublicKey::new(&ED25519, s.key.0).verify(statement.as_bytes(), &s.signature).is_ok()
        };
        let known = signatures.iter().filter(|s| policy.keys.contains(&s.key));
        let (signed, wrong): (Vec<_>, Vec<_>) = known.partition(good);
        let signed: BTreeSet<PublicKey> = signed.iter().map(|s| s.key).collect();
        if let Some(wrong) = wrong.first().filter(|_| signed.len() < policy.required) {
            let message = format!(
                "the signature of {} is over another deployment; this one is {}",
                wrong.key,
                statement.trim_end().replace('\n', ", ")
            );
            return Err(Error::new(ErrorKind::Validation, "wrong-signature", message));
        }
        if signed.len() < policy.required {
            let message = format!(
                "namespace {namespace} takes what {} of {} signers have signed; {} have: sign it with `relive sign`",
                policy.required,
                policy.keys.len(),
                signed.len()
            );
            return Err(Error::new(ErrorKind::Validation, "unsigned", message));
        }
        let keys: Vec<String> = signed.iter().map(PublicKey::to_string).collect();
        Ok(Some(keys.join(" ").into()))
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };

    use super::*;

    struct Signer(Ed25519KeyPair);

    impl Signer {
        fn new() -> Self {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness");
            Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key"))
        }

        fn key(&self) -> PublicKey {
            PublicKey(self.0.public_key().as_ref().try_into().expect("32 bytes"))
        }

        fn sign(&self, statement: &str) -> DeploymentSignature {
            let signature = self.0.sign(statement.as_bytes()).as_ref().try_into().expect("64 bytes");
            DeploymentSignature { key: self.key(), signature }
        }
    }

    #[test]
    fn so_many_of_the_signers_as_are_required_must_have_signed_just_this() {
        let (a, b, other) = (Signer::new(), Signer::new(), Signer::new());
        let keys = BTreeSet::from([a.key(), b.key()]);
        let policy = |required| {
            let namespace = Some(Namespace::default());
            Signers::new(vec![SignerPolicy { namespace, keys: keys.clone(), required }])
        };
        let (namespace, digest) = (Namespace::default(), Digest::of(b"code"));
        let said = statement(Kind::Workflow, &namespace, Some("order"), &digest);
        let check = |signers: &Signers, signatures: &[DeploymentSignature]| {
            let what = (Kind::Workflow, &namespace, Some("order"));
            signers.check(what, &digest, signatures).map_err(|e| e.code)
        };
        assert_eq!(check(&policy(1), &[a.sign(&said)]), Ok(Some(a.key().to_string().into())));
        assert_eq!(check(&policy(2), &[a.sign(&said)]), Err("unsigned"));
        assert_eq!(check(&policy(2), &[a.sign(&said), a.sign(&said)]), Err("unsigned"), "one signer twice is one");
        assert!(check(&policy(2), &[b.sign(&said), other.sign(&said), a.sign(&said)]).is_ok());
        assert_eq!(check(&policy(1), &[other.sign(&said)]), Err("unsigned"));
        assert_eq!(check(&policy(1), &[]), Err("unsigned"));
        for wrong in [
            statement(Kind::Activity, &namespace, Some("order"), &digest),
            statement(Kind::Workflow, &Namespace::new("other").expect("a name"), Some("order"), &digest),
            statement(Kind::Workflow, &namespace, Some("other"), &digest),
            statement(Kind::Workflow, &namespace, None, &digest),
            statement(Kind::Workflow, &namespace, Some("order"), &Digest::of(b"older code")),
        ] {
            assert_eq!(check(&policy(1), &[a.sign(&wrong)]), Err("wrong-signature"), "{wrong}");
        }
        let elsewhere = Namespace::new("elsewhere").expect("a name");
        let free = policy(1).check((Kind::Workflow, &elsewhere, None), &digest, &[]);
        assert_eq!(free.map_err(|e| e.code), Ok(None), "no policy is for it");
    }

    #[test]
    fn signatures_are_text() {
        let signature = Signer::new().sign("x");
        assert_eq!(signature.to_string().parse(), Ok(signature));
        for wrong in ["", "ed25519 a", "rsa a b", "ed25519 AAAA AAAA", "ed25519 ? ?"] {
            assert!(wrong.parse::<DeploymentSignature>().is_err(), "{wrong}");
        }
    }
}
