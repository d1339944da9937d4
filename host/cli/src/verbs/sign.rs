//! `relive sign FILE --name NAME --key KEY`: signs a component for a deployment, and keeps the signature beside it, where
//! `relive deploy` finds it.

use std::path::{Path, PathBuf};

use relive_core::{Digest, Namespace};
use relive_engine::signers::{DeploymentSignature, Kind, PublicKey, statement};
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::{
    Context,
    exit::{Exit, Failure},
    input::unreadable,
    output,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The .wasm file; its signatures are in FILE.sig
    #[arg(required_unless_present = "public")]
    file: Option<PathBuf>,
    /// The name that it will be deployed under; the names that it has itself if absent
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// It is an activity, not workflows
    #[arg(long, requires = "name")]
    activity: bool,
    /// The Ed25519 key, as `openssl genpkey -algorithm ed25519` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Print the public key, for the hosts' --signers
    #[arg(long, conflicts_with_all = ["file", "name", "activity"])]
    public: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let key = read_key(&args.key)?;
    let public = public_key(&key)?;
    let Some(file) = args.file.as_ref().filter(|_| !args.public) else {
        return output::line(&public.to_string()).map(|()| Exit::Ok);
    };
    let component = std::fs::read(file).map_err(|e| unreadable(&file.display().to_string(), &e))?;
    let namespace = Namespace::new(&context.global.namespace)
        .map_err(|e| Failure::new(Exit::Usage, "invalid-name", e.to_string()))?;
    let kind = if args.activity { Kind::Activity } else { Kind::Workflow };
    let statement = statement(kind, &namespace, args.name.as_deref(), &Digest::of(&component));
    let broken = |_| Failure::new(Exit::Failed, "signing", "a signature of unexpected length".to_owned());
    let signature = key.sign(statement.as_bytes()).as_ref().try_into().map_err(broken)?;
    let line = DeploymentSignature { key: public, signature }.to_string();
    let path = beside(file);
    let mut lines = signatures_of(file)?;
    if !lines.contains(&line) {
        lines.push(line.clone());
    }
    std::fs::write(&path, lines.join("\n") + "\n")
        .map_err(|e| Failure::new(Exit::Failed, "unwritable", format!("failed to write {}: {e}", path.display())))?;
    output::line(&line)?;
    output::note(context, &format!("kept in {}; relive deploy takes it from there", path.display()));
    Ok(Exit::Ok)
}

/// Where a component's signatures are.
fn beside(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// The signatures beside a component, a line each; none if there is no such file.
pub(super) fn signatures_of(component: &Path) -> Result<Vec<String>, Failure> {
    let path = beside(component);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(&path.display().to_string(), &e)),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let checked = lines.map(|line| {
        let wrong = |what| Failure::new(Exit::Usage, "invalid-signature", format!("{}: {what}", path.display()));
        line.parse::<DeploymentSignature>().map(|_| line.to_owned()).map_err(wrong)
    });
    checked.collect()
}

fn public_key(key: &Ed25519KeyPair) -> Result<PublicKey, Failure> {
    let bytes = key.public_key().as_ref().try_into();
    bytes.map(PublicKey).map_err(|_| Failure::new(Exit::Failed, "signing", "a key of unexpected length".to_owned()))
}

/// An Ed25519 key of a PEM file (PKCS #8).
fn read_key(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(&name, &e))?;
    let wrong = |what: String| {
        Failure::new(Exit::Usage, "invalid-key", format!("{name} is no Ed25519 key: {what}"))
            .hint("make one with openssl genpkey -algorithm ed25519 -out key.pem")
    };
    let inner = text.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END"));
    let (inner, _) = inner.ok_or_else(|| wrong("it holds no `BEGIN PRIVATE KEY`".to_owned()))?;
    let compact: String = inner.split_whitespace().collect();
    let document = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, compact);
    let document = document.map_err(|e| wrong(e.to_string()))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&document).map_err(|e| wrong(e.to_string()))
}
