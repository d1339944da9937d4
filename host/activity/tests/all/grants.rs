//! Grants: directories and environment are there when granted, nothing is when not, and there is no way out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use relive_activity::{Access, DirGrant, GrantError, Grants, HostPattern, WasmLimits};
use relive_core::Json;

use crate::guest::{KITCHEN, kitchen};
use crate::support::Deployment;

/// WASI preview 1's numbers.
const ERRNO_BADF: &str = "008";
const ERRNO_NOENT: &str = "044";
const ERRNO_PERM: &str = "063";
const ERRNO_ROFS: &str = "069";

fn directory(host: &Path, access: Access) -> Grants {
    let directories = vec![DirGrant { host: host.to_owned(), guest: "/data".into(), access }];
    Grants { directories, ..Grants::default() }
}

fn deploy(grants: &Grants) -> Deployment {
    Deployment::new(kitchen(), KITCHEN, grants, WasmLimits::default())
}

#[tokio::test]
async fn nothing_is_granted_by_default() {
    let deployed = deploy(&Grants::default());
    assert_eq!(deployed.ok("env", "null").await, "\"\"");
    for (name, path) in [("read", "\"a.txt\""), ("read", "\"/etc/passwd\""), ("write", "\"a.txt\"")] {
        let failure = deployed.fails(name, path).await;
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("errno", ERRNO_BADF), "{name} {path}");
    }
}

#[tokio::test]
async fn the_environment_is_what_is_granted() {
    let env = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned()), ("LANG".to_owned(), "eo".to_owned())]);
    let deployed = deploy(&Grants { env, ..Grants::default() });
    assert_eq!(deployed.ok("env", "null").await, "\"GREETING=hello;LANG=eo;\"");
}

#[tokio::test]
async fn a_granted_directory_can_be_read_and_written() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    fs::write(folder.path().join("sub/a.txt"), "inside").expect("a file");
    let deployed = deploy(&directory(folder.path(), Access::ReadWrite));
    assert_eq!(deployed.ok("read", "\"sub/a.txt\"").await, "\"inside\"");
    assert_eq!(deployed.ok("read", "\"sub/../sub/a.txt\"").await, "\"inside\"");
    assert_eq!(deployed.ok("write", "\"sub/b.txt\"").await, "null");
    assert_eq!(fs::read_to_string(folder.path().join("sub/b.txt")).expect("the file"), "written");
    assert_eq!(deployed.fails("read", "\"none\"").await.message, ERRNO_NOENT);
}

#[tokio::test]
async fn a_read_only_directory_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.txt"), "inside").expect("a file");
    let deployed = deploy(&directory(folder.path(), Access::ReadOnly));
    assert_eq!(deployed.ok("read", "\"a.txt\"").await, "\"inside\"");
    for path in ["\"a.txt\"", "\"new.txt\""] {
        let failure = deployed.fails("write", path).await;
        assert!([ERRNO_PERM, ERRNO_ROFS].contains(&failure.message.as_str()), "{path}: {failure}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("a.txt")).expect("the file"), "inside");
    assert!(!folder.path().join("new.txt").exists());
}

#[tokio::test]
async fn there_is_no_way_out_of_a_directory() {
    let outer = tempfile::tempdir().expect("a folder");
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let secret = outer.path().join("secret");
    fs::write(&secret, "secret").expect("a file");
    fs::write(inner.join("open.txt"), "open").expect("a file");
    symlink("../secret", inner.join("relative")).expect("a link");
    symlink(&secret, inner.join("absolute")).expect("a link");
    symlink("..", inner.join("up")).expect("a link");
    symlink("open.txt", inner.join("harmless")).expect("a link");
    let deployed = deploy(&directory(&inner, Access::ReadWrite));
    assert_eq!(deployed.ok("read", "\"harmless\"").await, "\"open\"");
    let absolute = secret.display().to_string();
    for path in [
        "../secret",
        "./../secret",
        "up/secret",
        "relative",
        "absolute",
        &absolute,
        "/data/open.txt",
        "../inner/open.txt",
    ] {
        for name in ["read", "write"] {
            let failure = deployed.fails(name, &format!("\"{path}\"")).await;
            assert_eq!((failure.code.as_str(), failure.message.as_str()), ("errno", ERRNO_PERM), "{name} {path}");
        }
    }
    assert_eq!(fs::read_to_string(&secret).expect("the file"), "secret");
}

#[tokio::test]
async fn a_directory_is_the_one_that_was_granted() {
    let outer = tempfile::tempdir().expect("a folder");
    let granted = outer.path().join("granted");
    let other = outer.path().join("other");
    for folder in [&granted, &other] {
        fs::create_dir(folder).expect("a folder");
        fs::write(folder.join("a.txt"), folder.file_name().expect("a name").as_encoded_bytes()).expect("a file");
    }
    let deployed = deploy(&directory(&granted, Access::ReadOnly));
    fs::rename(&granted, outer.path().join("moved")).expect("moves");
    symlink(&other, &granted).expect("a link");
    assert_eq!(deployed.ok("read", "\"a.txt\"").await, "\"granted\"");
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let missing = Path::new("/nowhere/at/all");
    let host = crate::support::host(WasmLimits::default());
    let loaded = host.load(relive_core::Digest::of(kitchen()), kitchen()).expect("loads");
    let registry = relive_activity::ActivityRegistry::builder(Default::default()).wasm(host).build();
    let put = registry.put_wasm(&Default::default(), "read", loaded, &directory(missing, Access::ReadOnly));
    let error = put.expect_err("it is missing");
    assert!(matches!(error, GrantError::Directory { .. }) && error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn grants_are_checked_and_keep_their_form() {
    let read = |text: &str| Grants::from_json(&Json::parse(text).expect("JSON"));
    let text = r#"{"directories":[{"host":"/srv/a","guest":"/a","access":"read-write"}],"http":["https://example.com:443"],"env":{"A":"1"}}"#;
    let grants = read(text).expect("grants");
    assert_eq!(grants.to_json().expect("JSON").as_str(), text);
    assert_eq!(read("{}").expect("nothing"), Grants::default());
    assert!(!format!("{grants:?}").contains("\"1\""), "the value of a variable is shown");
    for (text, reason) in [
        (r#"{"files":[]}"#, "unknown field `files`"),
        (r#"{"directories":[{"host":"/a","guest":"/a","acess":"read-only"}]}"#, "unknown field `acess`"),
        (r#"{"directories":[{"host":"/a","guest":"/a","access":"all"}]}"#, "unknown variant `all`"),
        (r#"{"directories":[{"host":"/a","guest":"/a"},{"host":"/b","guest":"/a"}]}"#, "granted twice"),
        (r#"{"directories":[{"host":"/a","guest":""}]}"#, "1 to 255 bytes"),
        (r#"{"http":["example.com"]}"#, "name the port"),
        (r#"{"http":["*.example.com:443"]}"#, "wildcard"),
        (r#"{"http":["ftp://example.com"]}"#, "http or https"),
        (r#"{"http":["example.com:99999"]}"#, "from 1 to 65535"),
        (r#"{"http":["https://user@example.com"]}"#, "without path, user"),
        (r#"{"http":["https://example.com/path"]}"#, "without path"),
        (r#"{"env":{"A=B":"1"}}"#, "neither '='"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let many: Vec<HostPattern> = (1..100).map(|port| format!("h:{port}").parse().expect("a host")).collect();
    let error = Grants { http: many, ..Grants::default() }.check().expect_err("too many");
    assert!(matches!(error, GrantError::TooMany { found: 99, .. }), "{error}");
}
