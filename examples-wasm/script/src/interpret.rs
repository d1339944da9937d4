//! Runs a program step by step, and records what it saw.

use crate::burn;
use crate::handle::{call, Handle};
use crate::program::{AttemptStep, Level, LogStep, PublishStep, Script, Step, VersionStep};
use crate::record::{Record, Seen};
use relive_sdk::{
    cancel_requested, continue_as_new, info, join_all, log, message, now, publish, race, random_bytes, random_u64,
    timer, uuid, version, Failure,
};
use serde_json::{json, Value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Why a sequence of steps stops early.
pub enum Stop {
    /// The workflow ends as completed.
    Finish,
    /// A failure in strict mode, or a `fail` step.
    Failed(Failure),
}

/// State that all branches of a program share.
pub struct Machine {
    record: RefCell<Record>,
    handles: RefCell<BTreeMap<String, Handle>>,
    memory: RefCell<Vec<Vec<u8>>>,
    keep: bool,
    strict: Cell<bool>,
}

type Run<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + 'a>>;

impl Machine {
    pub fn new(script: &Script) -> Self {
        Self {
            record: RefCell::default(),
            handles: RefCell::default(),
            memory: RefCell::default(),
            keep: !script.quiet,
            strict: Cell::new(script.strict),
        }
    }

    pub fn finish(self) -> Record {
        self.record.into_inner().finish()
    }

    /// Run steps in order. Boxed: steps hold steps.
    pub fn run<'a>(&'a self, steps: &'a [Step]) -> Run<'a> {
        Box::pin(async move {
            for step in steps {
                self.step(step).await?;
            }
            Ok(())
        })
    }

    async fn step(&self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Activity(_) | Step::Timer(_) | Step::Message(_) => self.begin(step).await,
            Step::Await(name) => match self.take(name) {
                Some(handle) => self.saw("await", Some(name), handle.await),
                None => self.unknown(name),
            },
            Step::Cancel(name) | Step::Drop(name) | Step::Detach(name) => self.give_up(step, name),
            Step::Select(names) => self.select(names).await,
            Step::Join(names) => self.join(names).await,
            Step::Parallel(branches) => self.parallel(branches).await,
            Step::Attempt(attempt) => self.attempt(attempt).await,
            Step::Repeat(repeat) => {
                for _ in 0..repeat.times {
                    self.run(&repeat.steps).await?;
                }
                Ok(())
            }
            Step::Version(step) => self.version(step).await,
            Step::Fail(fail) if fail.canceled => Err(Stop::Failed(Failure::canceled(fail.message.as_str()))),
            Step::Fail(fail) => Err(Stop::Failed(Failure::new(fail.code.as_str(), fail.message.as_str()))),
            Step::Finish => Err(Stop::Finish),
            Step::ContinueAsNew(script) => continue_as_new(script).await,
            other => self.at_once(other),
        }
    }

    /// Steps that start something: to be waited for now, or under a handle.
    async fn begin(&self, step: &Step) -> Result<(), Stop> {
        let (kind, of, name, handle) = match step {
            Step::Activity(step) => ("activity", &step.name, &step.handle, Handle::Activity(call(step).start())),
            Step::Timer(step) => {
                let pending = timer(Duration::from_millis(step.ms)).start();
                ("timer", &String::new(), &step.handle, Handle::Timer(pending))
            }
            Step::Message(step) => {
                let next = message::<Value>(step.channel.as_str());
                ("message", &step.channel, &step.handle, Handle::Message(next))
            }
            _ => return Ok(()),
        };
        match name {
            Some(name) => {
                let replaced = self.handles.borrow_mut().insert(name.clone(), handle);
                drop(replaced);
                Ok(())
            }
            None => self.saw(kind, (!of.is_empty()).then_some(of), handle.await),
        }
    }

    fn give_up(&self, step: &Step, name: &str) -> Result<(), Stop> {
        let Some(mut handle) = self.take(name) else {
            return self.unknown(name);
        };
        match step {
            Step::Cancel(_) => {
                if handle.cancel() {
                    self.handles.borrow_mut().insert(name.to_owned(), handle);
                }
            }
            Step::Detach(_) => handle.detach(),
            _ => drop(handle),
        }
        Ok(())
    }

    async fn select(&self, names: &[String]) -> Result<(), Stop> {
        let mut handles = self.take_all(names)?;
        if handles.is_empty() {
            return Ok(());
        }
        let (first, outcome) = race(handles.iter_mut().map(|(_, handle)| handle)).await;
        let (name, _) = handles.remove(first);
        self.handles.borrow_mut().extend(handles);
        self.saw("select", Some(&name), outcome)
    }

    async fn join(&self, names: &[String]) -> Result<(), Stop> {
        let (names, handles): (Vec<String>, Vec<Handle>) = self.take_all(names)?.into_iter().unzip();
        let outcomes = join_all(handles).await;
        for (name, outcome) in names.iter().zip(outcomes) {
            self.saw("join", Some(name), outcome)?;
        }
        Ok(())
    }

    /// Every branch runs to its end; the first stop, in the order of the branches, then counts.
    async fn parallel(&self, branches: &[Vec<Step>]) -> Result<(), Stop> {
        join_all(branches.iter().map(|steps| self.run(steps))).await.into_iter().collect()
    }

    async fn attempt(&self, attempt: &AttemptStep) -> Result<(), Stop> {
        let strict = self.strict.replace(true);
        let outcome = self.run(&attempt.steps).await;
        self.strict.set(strict);
        match outcome {
            Err(Stop::Failed(failure)) => {
                self.note("attempt", None, Err(&failure));
                self.run(&attempt.on_failure).await
            }
            other => other,
        }
    }

    async fn version(&self, step: &VersionStep) -> Result<(), Stop> {
        let answer = version(&step.change_id, step.min, step.max);
        self.note("version", Some(&step.change_id), Ok(answer.into()));
        self.run(if answer == step.max { &step.new } else { &step.old }).await
    }

    /// Steps that wait for nothing.
    fn at_once(&self, step: &Step) -> Result<(), Stop> {
        let (kind, value): (_, Value) = match step {
            Step::Publish(PublishStep { key, value }) => {
                return publish(key, value).or_else(|failure| self.saw("publish", Some(key), Err(failure)));
            }
            Step::Log(line) => {
                write(line);
                return Ok(());
            }
            Step::Random => ("random", random_u64().into()),
            Step::RandomBytes(length) => ("random-bytes", hexadecimal(&random_bytes(*length)).into()),
            Step::Uuid => ("uuid", uuid().into()),
            Step::Now => ("now", u64::try_from(now().as_nanos()).unwrap_or(u64::MAX).into()),
            Step::Info => {
                let info = info();
                let seen = json!({
                    "workflow-id": info.workflow_id, "workflow": info.workflow,
                    "history-length": info.history_length, "cancel-requested": cancel_requested(),
                });
                ("info", seen)
            }
            Step::Compute(rounds) => ("compute", burn::compute(*rounds).into()),
            Step::Recurse(depth) => ("recurse", burn::recurse(*depth).into()),
            Step::Alloc(bytes) => {
                self.memory.borrow_mut().push(burn::alloc(*bytes));
                ("alloc", (*bytes).into())
            }
            Step::Trap => panic!("trap, as the program says"),
            Step::LoopForever => burn::forever(),
            _ => return Ok(()),
        };
        self.note(kind, None, Ok(value));
        Ok(())
    }

    fn take(&self, name: &str) -> Option<Handle> {
        self.handles.borrow_mut().remove(name)
    }

    fn take_all(&self, names: &[String]) -> Result<Vec<(String, Handle)>, Stop> {
        let mut taken = Vec::new();
        for name in names {
            match self.take(name) {
                Some(handle) => taken.push((name.clone(), handle)),
                None => self.unknown(name)?,
            }
        }
        Ok(taken)
    }

    fn unknown(&self, name: &str) -> Result<(), Stop> {
        let message = format!("no handle `{name}`");
        self.saw("handle", Some(name), Err(Failure::new("unknown-handle", message)))
    }

    /// Record an outcome; in strict mode a failure stops the program.
    fn saw(&self, step: &'static str, of: Option<&str>, outcome: Result<Value, Failure>) -> Result<(), Stop> {
        match outcome {
            Ok(value) => self.note(step, of, Ok(value)),
            Err(failure) => {
                self.note(step, of, Err(&failure));
                if self.strict.get() {
                    return Err(Stop::Failed(failure));
                }
            }
        }
        Ok(())
    }

    fn note(&self, step: &'static str, of: Option<&str>, outcome: Result<Value, &Failure>) {
        let (ok, err) = match outcome {
            Ok(value) => (Some(value), None),
            Err(failure) => (None, Some(failure.into())),
        };
        self.record.borrow_mut().add(Seen { step, of: of.map(str::to_owned), ok, err }, self.keep);
    }
}

fn write(line: &LogStep) {
    let message = &line.message;
    match line.level {
        Level::Trace => log::trace!("{message}"),
        Level::Debug => log::debug!("{message}"),
        Level::Info => log::info!("{message}"),
        Level::Warn => log::warn!("{message}"),
        Level::Error => log::error!("{message}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
