//! What `relive serve` says to a configuration that is wrong, and that its document is true. Hosts that really run are
//! in `cluster.rs`.

mod common;

use std::path::Path;

use std::process::Command;

fn serve(dir: &Path, file: &str, args: &[&str]) -> (i32, String) {
    std::fs::write(dir.join("relive-server.toml"), file).expect("written");
    let output = Command::new(common::relive())
        .arg("serve")
        .args(args)
        .current_dir(dir)
        .env_remove("RELIVE_STORE")
        .output()
        .expect("it runs");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_configuration_names_the_line_and_what_there_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases = [
        ("", &[][..], "a host of a cluster needs its store"),
        ("store = \"mysql://x\"", &[], "postgres://"),
        ("listen = \"127.0.0.1:0\"\nstor = \"x\"", &[], "line 2: there is no setting \"stor\""),
        ("listen = [1]", &[], "line 1: listen takes text or a whole number"),
        ("insecure = \"yes\"", &[], "line 1: insecure takes true or false"),
        ("cache_mb = 0", &[], "cache-mb"),
        ("this is no toml", &[], "it is no TOML"),
        ("store = \"postgres://u@127.0.0.1:1/x\"", &["--listen", "0.0.0.0:0"], "nobody is asked for credentials"),
        ("store = \"postgres://u:hush@127.0.0.1:1/x\"", &["--listen", "127.0.0.1:0"], "cannot be reached"),
        ("", &["--config", "nowhere.toml"], "it cannot be read"),
    ];
    for (file, args, wanted) in cases {
        let (code, err) = serve(dir.path(), file, args);
        assert!(code == 1 || code == 2, "{file}: {code} {err}");
        assert!(err.contains(wanted), "{file}: {err}");
        assert!(!err.contains("hush"), "{err}");
    }
}

#[test]
fn the_document_lists_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = relive_cli_document();
    if std::env::var_os("RELIVE_BLESS").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the document"), text, "bless with RELIVE_BLESS=1");
}

fn relive_cli_document() -> String {
    ::relive::serve::document()
}
