//! Compilation in a child process and the authenticated cache.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use relive_core::Digest;
use relive_sandbox::{CacheStats, CompileLimits, CompileMode, EngineKind, Sandbox, SandboxConfig, SandboxError};
use support::{GuestText, refusal};

fn child() -> CompileMode {
    CompileMode::Child { program: env!("CARGO_BIN_EXE_relive-compile").into(), args: Vec::new() }
}

fn cached(dir: &Path) -> Sandbox {
    let config = SandboxConfig { cache_dir: Some(dir.join("native")), ..SandboxConfig::in_process() };
    Sandbox::new(config).expect("a sandbox")
}

fn limited(limits: CompileLimits) -> Sandbox {
    let config = SandboxConfig { compile: child(), compile_limits: limits, ..SandboxConfig::in_process() };
    Sandbox::new(config).expect("a sandbox")
}

/// Functions that hold thousands of values at once: cheap to send, slow to compile.
fn bomb() -> Vec<u8> {
    let body = format!(
        "{}{}",
        "(i64.mul (local.get 0) (local.get 0)) (local.get 0) i64.xor (local.tee 0) ".repeat(40_000),
        "i64.add ".repeat(40_000)
    );
    let function = format!("(func (param i64) (result i64) i64.const 0 {body})");
    let fields: &'static str = function.repeat(8).leak();
    GuestText { fields, ..GuestText::default() }.module()
}

#[test]
fn a_child_compiles_what_this_process_runs() {
    let sandbox = limited(CompileLimits::default());
    let admitted = sandbox.admit(&GuestText::default().module()).expect("admitted");
    assert_eq!(admitted.inspection.descriptions[0].name, "demo");
}

#[test]
fn a_compile_bomb_hits_the_clock_and_the_host_goes_on() {
    let wall = Duration::from_millis(300);
    let sandbox = limited(CompileLimits { wall, ..CompileLimits::default() });
    let began = Instant::now();
    let (code, message) = refusal(sandbox.admit(&bomb()));
    assert_eq!(code, "compile-timeout", "{message}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let sandbox = limited(CompileLimits::default());
    assert!(sandbox.admit(&GuestText::default().module()).is_ok());
}

#[test]
fn a_compile_bomb_hits_the_cpu_limit() {
    let sandbox = limited(CompileLimits { cpu: Duration::from_secs(1), ..CompileLimits::default() });
    let (code, message) = refusal(sandbox.admit(&bomb()));
    assert_eq!(code, "compile-timeout", "{message}");
}

#[test]
fn a_compile_bomb_hits_the_memory_limit() {
    let sandbox = limited(CompileLimits { address_space: 40 << 20, ..CompileLimits::default() });
    let (code, message) = refusal(sandbox.admit(&bomb()));
    assert_eq!(code, "compile-memory", "{message}");
}

#[test]
fn instances_that_multiply_hit_a_limit() {
    // Seven levels, each twenty times the one below: over a billion instances from a few hundred bytes.
    let mut text = "(core module $m) (core instance (instantiate $m))".to_owned();
    for level in 0..6 {
        text = format!("(component $c{level} {text}) {}", format!("(instance (instantiate $c{level}))").repeat(20));
    }
    let mut upload = wat::parse_str(format!(
        "(component {text} (instance $i) (export \"relive:workflow/reactor@0.1.0\" (instance $i)))"
    ))
    .expect("well-formed");
    let sandbox =
        limited(CompileLimits { cpu: Duration::from_secs(1), address_space: 512 << 20, ..CompileLimits::default() });
    let (code, message) = refusal(sandbox.admit(&upload));
    assert!(["compile-timeout", "compile-memory", "compile-refused"].contains(&code), "{code}: {message}");
    upload.truncate(upload.len() - 1);
    assert!(sandbox.admit(&upload).is_err());
}

#[test]
fn a_missing_compiler_is_this_hosts_fault() {
    let compile = CompileMode::Child { program: "/nonexistent/compiler".into(), args: Vec::new() };
    let config = SandboxConfig { compile, ..SandboxConfig::in_process() };
    let sandbox = Sandbox::new(config).expect("a sandbox");
    let error = sandbox.admit(&GuestText::default().module()).expect_err("no compiler");
    assert_eq!((error.code(), error.is_uploads_fault()), ("compile-unavailable", false));
}

#[test]
fn native_code_is_compiled_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = GuestText::default().module();
    let digest = Digest::of(&module);
    cached(dir.path()).admit(&module).expect("admitted");
    let again = cached(dir.path());
    again.load(digest, &module).expect("loaded");
    assert_eq!(again.cache_stats(), CacheStats { hits: 1, misses: 0, rejected: 0 });
    let mode = |path: &Path| std::fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    let native = dir.path().join("native");
    assert_eq!(mode(&native), 0o700);
    assert_eq!(mode(&native.join("key")), 0o600);
    let file = again.cache_path(EngineKind::Workflow, &digest).expect("a cache");
    assert_eq!(mode(&file), 0o600);
    assert!(again.load(Digest::of(b"other"), &module).is_err_and(|e| e.code() == "digest-mismatch"));
}

#[test]
fn changed_native_code_is_noticed_and_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = GuestText::default().module();
    let digest = Digest::of(&module);
    let sandbox = cached(dir.path());
    sandbox.admit(&module).expect("admitted");
    let file = sandbox.cache_path(EngineKind::Workflow, &digest).expect("a cache");
    let good = std::fs::read(&file).expect("cached");
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&file, bytes).expect("written");
        let before = sandbox.cache_stats();
        sandbox.load(digest, &module).expect("compiled again");
        let after = sandbox.cache_stats();
        assert_eq!((after.rejected, after.hits), (before.rejected + 1, before.hits), "{what}");
        assert!(std::fs::read(&file).expect("cached").len() > 100, "{what}: replaced");
    };
    for at in [0, 9, 39, 40, 41, good.len() / 2, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        check(&flipped, &format!("bit flip at {at}"));
    }
    check(&good[..good.len() - 1], "truncated");
    check(&good[..20], "no header");
    check(b"", "empty");
    // Another component's genuine file under this name.
    let other = GuestText { memory: "3", ..GuestText::default() }.module();
    sandbox.admit(&other).expect("admitted");
    let foreign = sandbox.cache_path(EngineKind::Workflow, &Digest::of(&other)).expect("a cache");
    check(&std::fs::read(foreign).expect("cached"), "renamed");
    // Another host's key.
    std::fs::write(&file, &good).expect("written");
    std::fs::remove_file(dir.path().join("native/key")).expect("removed");
    let rekeyed = cached(dir.path());
    rekeyed.load(digest, &module).expect("compiled again");
    assert_eq!(rekeyed.cache_stats().rejected, 1);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    cached(dir.path());
    let key = dir.path().join("native/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let config = SandboxConfig { cache_dir: Some(dir.path().join("native")), ..SandboxConfig::in_process() };
    let error = Sandbox::new(config).expect_err("refused");
    assert!(matches!(error, SandboxError::Cache(_)), "{error}");
    assert!(error.to_string().contains("remove the key"), "{error}");
}
