//! Compilation of untrusted components to native code, in a child process that cannot take the host with it.
//!
//! Owns: the child's limits and protocol (component on stdin, native code on stdout, a reason on stderr), both sides
//! of it. Denial of service at compile time is outside wasmtime's security policy, hence the process: address space,
//! CPU time and open files are limited before the first byte is read, and the parent kills what outlives the clock.
//! Must not know: what the component is for, where native code is kept.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use crate::admission::caps::MAX_UPLOAD_BYTES;
use crate::cache::MAX_NATIVE_BYTES;
use crate::engine::{EngineKind, SandboxEngine};
use crate::native::TrustedCode;

/// CPU time of a compilation: about 0.8 s per MB of code, so 32 MB take 26 s on a slow core.
pub const COMPILE_CPU: Duration = Duration::from_secs(60);

/// Wall-clock time of a compilation: the CPU time on a machine that is busy with other things.
pub const COMPILE_WALL: Duration = Duration::from_secs(120);

/// Address space of the compiler child; the largest known guests need about 400 MB.
pub const COMPILE_ADDRESS_SPACE: u64 = 2 << 30;

/// Open files of the child: its three pipes and what the loader needs.
const COMPILE_FILES: u64 = 16;

/// How much of the child's stderr is read.
const MAX_REASON_BYTES: u64 = 16 << 10;

/// Turns must not wait for a compilation.
const COMPILE_NICE: i32 = 5;

/// Exit status of the child for a component that the compiler refuses.
const EXIT_INVALID: u8 = 10;
/// Exit status of the child that could not limit itself or read its input.
const EXIT_SETUP: u8 = 11;

/// Where compilation happens.
#[derive(Clone, Debug)]
pub enum CompileMode {
    /// In a child process: `program args.. <kind> <optimise> <address space> <cpu seconds>`, which calls
    /// [`compile_child_main`].
    Child { program: PathBuf, args: Vec<OsString> },
    /// In this process, without limits: for tests, and for embedders who trust their components.
    InProcess,
}

/// What a compilation may use.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    pub wall: Duration,
    pub cpu: Duration,
    pub address_space: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { wall: COMPILE_WALL, cpu: COMPILE_CPU, address_space: COMPILE_ADDRESS_SPACE }
    }
}

/// Why there is no native code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("compile the component within {limit:?}")]
    Timeout { limit: Duration },
    #[error("compile the component within {limit_bytes} bytes of memory")]
    Memory { limit_bytes: u64 },
    #[error("compile the component: {0}")]
    Invalid(String),
    #[error("compile the component: the compiler stopped ({0})")]
    Crashed(String),
    #[error("run the compiler: {0}")]
    Io(String),
}

/// For whom a compilation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An upload, which may be hostile and take all the time that it may.
    Upload,
    /// A component that was admitted before; executions wait for it.
    Load,
}

/// Compiles one component at a time for each purpose: uploads must neither take the processors from running turns nor
/// keep executions waiting.
#[derive(Debug)]
pub struct Compiler {
    mode: CompileMode,
    limits: CompileLimits,
    upload: Mutex<()>,
    load: Mutex<()>,
}

impl Compiler {
    pub fn new(mode: CompileMode, limits: CompileLimits) -> Self {
        Self { mode, limits, upload: Mutex::new(()), load: Mutex::new(()) }
    }

    /// Compiles a component that passed the structural checks.
    pub(crate) fn compile(
        &self,
        engine: &SandboxEngine,
        component: &[u8],
        purpose: Purpose,
    ) -> Result<TrustedCode, CompileError> {
        let _turn = match purpose {
            Purpose::Upload => self.upload.lock(),
            Purpose::Load => self.load.lock(),
        };
        let code = match &self.mode {
            CompileMode::InProcess => in_process(engine, component)?,
            CompileMode::Child { program, args } => {
                let mut command = Command::new(program);
                command
                    .args(args)
                    .arg(engine.kind().as_str())
                    .arg(engine.optimises().to_string())
                    .arg(self.limits.address_space.to_string())
                    .arg(self.limits.cpu.as_secs().max(1).to_string());
                in_child(command, component, &self.limits)?
            }
        };
        Ok(TrustedCode::compiled(code))
    }
}

fn in_process(engine: &SandboxEngine, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    // wasmtime also takes text where its `wat` feature is on; uploads are binary.
    if !component.starts_with(b"\0asm") {
        return Err(CompileError::Invalid("not a WebAssembly binary".into()));
    }
    match catch_unwind(AssertUnwindSafe(|| engine.engine().precompile_component(component))) {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(e)) => Err(CompileError::Invalid(format!("{e:#}"))),
        Err(_) => Err(CompileError::Crashed("a panic in the compiler".into())),
    }
}

/// Kills and reaps the child whatever happens.
struct Reaper(Child);

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn in_child(mut command: Command, component: &[u8], limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    let io = |what: &str, e: std::io::Error| CompileError::Io(format!("{what}: {e}"));
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let deadline = Instant::now() + limits.wall;
    let mut child = Reaper(command.spawn().map_err(|e| io("start the compiler's process", e))?);
    let pipes = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(CompileError::Io("the child's pipes are missing".into()));
    };
    std::thread::scope(|scope| {
        // A child that dies early breaks the pipe; its exit status says why.
        scope.spawn(move || {
            let _ = stdin.write_all(component);
        });
        let reason = scope.spawn(move || read_up_to(stderr, MAX_REASON_BYTES).unwrap_or_default());
        let (done, result) = mpsc::channel();
        scope.spawn(move || {
            let _ = done.send(read_up_to(stdout, MAX_NATIVE_BYTES));
        });
        let code = match result.recv_timeout(limits.wall) {
            Ok(code) => code.map_err(|e| io("read from the compiler", e)),
            Err(_) => Err(CompileError::Timeout { limit: limits.wall }),
        };
        // Ends the pipes' threads too, before the scope waits for them.
        let status = code.and_then(|code| Ok((code, wait_until(&mut child.0, deadline, limits)?)));
        drop(child);
        let reason = reason.join().unwrap_or_default();
        let (code, status) = status?;
        judge(code, status, &String::from_utf8_lossy(&reason), limits)
    })
}

fn read_up_to(from: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The child closed its output; its end follows at once or by force.
fn wait_until(child: &mut Child, deadline: Instant, limits: &CompileLimits) -> Result<ExitStatus, CompileError> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() >= deadline => {
                return Err(CompileError::Timeout { limit: limits.wall });
            }
            Ok(None) => std::thread::sleep(Duration::from_micros(200)),
            Err(e) => return Err(CompileError::Io(format!("wait for the compiler: {e}"))),
        }
    }
}

fn judge(code: Vec<u8>, status: ExitStatus, reason: &str, limits: &CompileLimits) -> Result<Vec<u8>, CompileError> {
    use std::os::unix::process::ExitStatusExt;
    let reason = reason.trim();
    match (status.code(), status.signal().and_then(Signal::from_named_raw)) {
        (Some(0), _) if !code.is_empty() => Ok(code),
        (Some(0), _) => Err(CompileError::Crashed("no output".into())),
        (Some(c), _) if c == i32::from(EXIT_INVALID) => Err(CompileError::Invalid(reason.to_owned())),
        (Some(c), _) if c == i32::from(EXIT_SETUP) => Err(CompileError::Io(reason.to_owned())),
        // Both come from the CPU limit: the first at the soft limit, the second at the hard one.
        (_, Some(Signal::XCPU | Signal::KILL)) => Err(CompileError::Timeout { limit: limits.cpu }),
        // How Rust's runtime reports that an allocation failed.
        (_, Some(Signal::ABORT)) if reason.contains("memory allocation") => {
            Err(CompileError::Memory { limit_bytes: limits.address_space })
        }
        _ => Err(CompileError::Crashed(format!("{status}: {}", reason.lines().last().unwrap_or("no message")))),
    }
}

/// The child's whole life. The last three arguments of the process are the engine's kind, the address space in bytes
/// and the CPU time in seconds.
pub fn compile_child_main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match child(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, reason)) => {
            let _ = writeln!(std::io::stderr(), "{reason}");
            ExitCode::from(status)
        }
    }
}

fn child(args: &[String]) -> Result<(), (u8, String)> {
    let setup = |reason: String| (EXIT_SETUP, reason);
    let [.., kind, optimise, address_space, cpu] = args else {
        let usage = "usage: <workflow|activity> <optimise: true|false> <address space in bytes> <cpu seconds>";
        return Err(setup(usage.into()));
    };
    let kind = EngineKind::parse(kind).ok_or_else(|| setup(format!("no engine is named {kind:?}")))?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| setup(format!("{text:?}: {e}")));
    let optimise = optimise == "true";
    let (address_space, cpu) = (number(address_space)?, number(cpu)?);
    confine(address_space, cpu).map_err(|e| setup(format!("limit the compiler: {e}")))?;
    let mut component = Vec::new();
    let limit = MAX_UPLOAD_BYTES as u64 * 2;
    std::io::stdin().take(limit).read_to_end(&mut component).map_err(|e| setup(format!("read the component: {e}")))?;
    let engine = SandboxEngine::new(kind, optimise).map_err(|e| setup(e.to_string()))?;
    let code = match in_process(&engine, &component) {
        Ok(code) => code,
        Err(CompileError::Invalid(reason)) => return Err((EXIT_INVALID, reason)),
        Err(other) => return Err((1, other.to_string())),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(|e| setup(format!("write native code: {e}")))
}

fn confine(address_space: u64, cpu: u64) -> std::io::Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // Should the host die, nobody waits for the result.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::Nofile, both(COMPILE_FILES))?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 1) })?;
    setrlimit(Resource::As, both(address_space))?;
    // Politeness; a machine that forbids it is no reason to fail.
    let _ = rustix::process::nice(COMPILE_NICE);
    Ok(())
}
