//! The manifest: what it says, and where it is wrong.

use std::path::{Path, PathBuf};

use relive_activity::manifest::{ActivityEntry, Position};
use relive_activity::{Access, ActivitySource, BreakerPolicy, Grants, Manifest};

const GOOD: &str = r#"
[package]
name = "shop"
build = "make guests"

[[workflow]]
name = "order"
component = "order.wasm"

[[activity]]
name = "charge"
component = "/opt/charge.wasm"
grants = { directories = [{ host = "data", guest = "/data", access = "read-write" }], http = ["api.example.com:443"], env = { MODE = "test" } }

[[activity]]
name = "email"
component = "out/email.wasm"
"#;

fn parse(text: &str) -> Result<Manifest, relive_activity::ManifestError> {
    Manifest::parse(text, Path::new("/srv/shop/relive.toml"))
}

#[test]
fn a_manifest_is_read_and_its_paths_begin_in_its_folder() {
    let manifest = parse(GOOD).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((manifest.name.as_str(), manifest.build.as_deref()), ("shop", Some("make guests")));
    assert_eq!(manifest.folder(), Path::new("/srv/shop"));
    assert_eq!(manifest.workflows[0].component, PathBuf::from("/srv/shop/order.wasm"));
    assert_eq!(manifest.workflows[0].position, Position { line: 8, column: 13 });
    let [charge, email] = &manifest.activities[..] else { panic!("two activities") };
    let (component, grants) = wasm(charge);
    assert_eq!(component, Path::new("/opt/charge.wasm"));
    let directory = &grants.directories[0];
    assert_eq!((directory.host.as_path(), directory.access), (Path::new("/srv/shop/data"), Access::ReadWrite));
    assert_eq!(grants.http[0].to_string(), "api.example.com:443");
    assert_eq!(grants.env["MODE"], "test");
    assert_eq!(wasm(email), (Path::new("/srv/shop/out/email.wasm"), &Grants::default()));
}

fn wasm(entry: &ActivityEntry) -> (&Path, &Grants) {
    match &entry.source {
        ActivitySource::Wasm { component, grants, .. } => (component, grants),
        ActivitySource::Http(config) => panic!("{config:?}"),
    }
}

#[test]
fn an_http_activity_is_read() {
    let text = "[package]\nname = \"a\"\n[[activity]]\nname = \"hook\"\nkind = \"http\"\nurl = \"http://127.0.0.1:9/hook\"\nheaders = { x-shop = \"1\" }\nallow_hosts = [\"127.0.0.1:9\"]\nallow_private = true\nmax_response_bytes = 1000\n";
    let manifest = parse(text).unwrap_or_else(|e| panic!("{e}"));
    let ActivitySource::Http(config) = &manifest.activities[0].source else { panic!("{manifest:?}") };
    assert_eq!((config.url.as_str(), config.headers["x-shop"].as_str()), ("http://127.0.0.1:9/hook", "1"));
    assert_eq!((config.allow_private, config.max_response_bytes), (true, Some(1000)));
    assert_eq!(config.allow_hosts[0].to_string(), "127.0.0.1:9");
    // Nothing is to be built for it.
    manifest.check_files().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn both_kinds_say_how_they_are_spared() {
    let spared = "breaker = { min_calls = 5, failure_percent = 80, open_ms = 10 }\nconcurrency = 3\n";
    let text = format!(
        "[package]\nname = \"a\"\n[[activity]]\nname = \"a\"\ncomponent = \"a.wasm\"\n{spared}[[activity]]\nname = \"h\"\nkind = \"http\"\nurl = \"https://a.com\"\n{spared}"
    );
    let manifest = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let grants = wasm(&manifest.activities[0]).1;
    let ActivitySource::Http(config) = &manifest.activities[1].source else { panic!("not http") };
    assert_eq!(grants.protection(), config.protection());
    let policy = grants.protection().policy(BreakerPolicy::default());
    assert_eq!((policy.min_calls, policy.fault_percent, policy.probes), (5, 80, BreakerPolicy::default().probes));
    // As the catalog keeps it.
    let kept = grants.to_json().expect("JSON");
    assert_eq!(kept.as_str(), r#"{"breaker":{"min_calls":5,"failure_percent":80,"open_ms":10},"concurrency":3}"#);
    assert_eq!(Grants::from_json(&kept).expect("grants").protection().concurrency, Some(3));
}

#[test]
fn grants_may_stand_in_a_table_of_their_own() {
    let text = "[package]\nname = \"a\"\n[[activity]]\nname = \"a\"\ncomponent = \"a.wasm\"\n[activity.grants]\nhttp = [\"h:1\"]\n[[activity.grants.directories]]\nhost = \"d\"\nguest = \"/d\"\n";
    let manifest = parse(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(wasm(&manifest.activities[0]).1.directories[0].access, Access::ReadOnly);
}

#[test]
fn an_error_names_its_place() {
    let head = "[package]\nname = \"a\"\n";
    let workflow = "[[workflow]]\nname = \"w\"\ncomponent = \"w.wasm\"\n";
    let activity = "[[activity]]\nname = \"a\"\ncomponent = \"a.wasm\"\n";
    let hook = "[[activity]]\nname = \"h\"\nkind = \"http\"\n";
    for (text, place, message) in [
        (format!("{head}nme = \"b\"\n"), (3, 1), "unknown field `nme`"),
        (format!("{head}[[workflow]]\nname = w\n"), (4, 8), ""),
        (format!("{head}[[workflow]]\nname = \"w\"\n"), (3, 1), "missing field `component`"),
        (format!("{head}[[worflow]]\n"), (3, 3), "unknown field `worflow`"),
        (format!("{head}[[workflow]]\nname = \"a b\"\ncomponent = \"w.wasm\"\n"), (4, 8), "workflow holds ' '"),
        (format!("{head}{workflow}{workflow}"), (7, 8), "workflow `w` stands here twice, first in line 4"),
        (format!("{head}{activity}grants = {{ files = [] }}\n"), (6, 12), "unknown field `files`"),
        (format!("{head}{activity}grants = {{ http = [\"example.com\"] }}\n"), (6, 19), "name the port"),
        (
            format!(
                "{head}{activity}grants = {{ directories = [{{ host = \"a\", guest = \"/a\", access = \"rw\" }}] }}\n"
            ),
            (6, 64),
            "unknown variant `rw`",
        ),
        (format!("{head}{activity}grants = {{ env = {{ \"A=B\" = \"1\" }} }}\n"), (6, 10), "neither '='"),
        (format!("{head}[[workflow]]\nname = \"w\"\ncomponent = \"\"\n"), (5, 13), "path is empty"),
        (format!("{head}{activity}url = \"https://a.com\"\n"), (6, 7), "kind = \"http\""),
        (format!("{head}{activity}kind = \"ftp\"\n"), (6, 8), "unknown variant `ftp`"),
        (format!("{head}[[activity]]\nname = \"a\"\n"), (4, 8), "missing field `component`"),
        (format!("{head}{hook}"), (4, 8), "needs a `url`"),
        (format!("{head}{hook}url = \"https://a.com\"\ngrants = {{}}\n"), (7, 10), "`grants` says nothing"),
        (format!("{head}{hook}url = \"http://10.0.0.1/\"\n"), (6, 7), "allow_private"),
        (format!("{head}{hook}url = \"https://a.com\"\nheaders = {{ Host = \"b\" }}\n"), (7, 11), "the host sets it"),
        (format!("{head}{hook}url = \"https://a.com\"\nallow_hosts = [\"b\"]\n"), (7, 15), "name the port"),
        (format!("{head}{hook}url = \"https://a.com\"\nmax_response_bytes = 0\n"), (7, 22), "1 to"),
        (format!("{head}{activity}concurrency = 0\n"), (6, 15), "set concurrency to 0"),
        (format!("{head}{activity}concurrency = -1\n"), (6, 15), ""),
        (format!("{head}{activity}breaker = {{ probes = 0 }}\n"), (6, 11), "set breaker.probes to 0"),
        (format!("{head}{activity}breaker = {{ open_for = 3 }}\n"), (6, 13), "unknown field `open_for`"),
        (format!("{head}{activity}grants = {{ concurrency = 3 }}\n"), (6, 10), "stand beside the grants"),
        (format!("{head}{hook}url = \"https://a.com\"\nconcurrency = 10001\n"), (7, 15), "1 to 10000"),
        (
            format!("{head}{hook}url = \"https://a.com\"\n[activity.breaker]\nopen_ms = 9\nmax_open_ms = 8\n"),
            (7, 1),
            "no less than open_ms",
        ),
        ("[package]\nname = \"\"\n".to_owned(), (2, 8), "package name is empty"),
        (format!("{head}build = \"  \"\n{workflow}"), (3, 9), "the build command is empty"),
    ] {
        let error = parse(&text).expect_err(&text);
        let position = Position { line: place.0, column: place.1 };
        assert_eq!(error.position, Some(position), "{text}\n{error}");
        assert!(error.message.contains(message), "{text}\n{error}");
        assert!(error.to_string().starts_with(&format!("/srv/shop/relive.toml:{position}: ")), "{error}");
    }
    let error = parse(head).expect_err("nothing to deploy");
    assert!(error.position.is_none() && error.message.contains("[[workflow]]"), "{error}");
    let error = parse("").expect_err("empty");
    assert!(error.message.contains("missing field `package`"), "{error}");
}

#[test]
fn a_missing_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("relive.toml");
    assert!(Manifest::load(folder.path()).expect_err("no file").to_string().contains("relive.toml: read the manifest"));
    std::fs::write(&path, GOOD).expect("written");
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|e| panic!("{e}"));
    let error = manifest.check_files().expect_err("nothing was built");
    assert_eq!(error.position, Some(Position { line: 8, column: 13 }));
    assert!(error.message.contains("order.wasm") && error.message.contains("`make guests`"), "{error}");
}
