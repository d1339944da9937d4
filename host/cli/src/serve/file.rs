//! The configuration file of `relive serve`: the options' names, as TOML. What the command line or the environment says
//! goes before it. There is one list of options, clap's: the file, the document and the help come from it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, parser::ValueSource};
use toml::{Table, Value};

use crate::{
    args::Cli,
    exit::{Exit, Failure},
};

/// Read if it is there and no other is named.
pub const DEFAULT_FILE: &str = "relive-server.toml";
pub const VERB: &str = "serve";
const CONFIG: &str = "config";

/// The command line with what the file adds to it. Other verbs' lines, and those that clap refuses anyway, stay as they
/// are.
pub fn merged(args: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    if !args.iter().any(|arg| arg == VERB) {
        return Ok(args);
    }
    let Ok(matches) = Cli::command().try_get_matches_from(&args) else { return Ok(args) };
    let Some((VERB, serve)) = matches.subcommand() else { return Ok(args) };
    let named: Option<&PathBuf> = serve.get_one(CONFIG);
    let path = named.cloned().unwrap_or_else(|| DEFAULT_FILE.into());
    if named.is_none() && !path.is_file() {
        return Ok(args);
    }
    let text = std::fs::read_to_string(&path).map_err(|e| {
        refused(&path, format!("it cannot be read: {e}")).hint("name another with --config, or leave it out")
    })?;
    let mut merged = args;
    merged.extend(added(&path, &text, serve)?);
    Ok(merged)
}

fn refused(path: &Path, what: String) -> Failure {
    Failure::new(Exit::Usage, "invalid-config", format!("{}: {what}", path.display()))
}

/// The options of `serve`.
pub fn command() -> Option<Command> {
    Cli::command().find_subcommand(VERB).cloned()
}

/// The options that a file may hold, in the order of the help.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| {
        let named = arg.get_long().is_some_and(|long| long != CONFIG && long != "help");
        named && !arg.is_global_set() && !arg.is_hide_set()
    })
}

/// An option's name in the file.
pub fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().replace('-', "_")
}

/// The arguments that the file stands for, without those that were given otherwise.
fn added(path: &Path, text: &str, given: &ArgMatches) -> Result<Vec<OsString>, Failure> {
    let table: Table = text.parse().map_err(|e: toml::de::Error| refused(path, format!("it is no TOML: {e}")))?;
    let Some(command) = command() else { return Ok(Vec::new()) };
    let mut args = Vec::new();
    for (name, value) in &table {
        let line = line_of(text, name);
        let Some(arg) = options(&command).find(|arg| key(arg) == *name) else {
            let known: Vec<String> = options(&command).map(key).collect();
            return Err(refused(path, format!("line {line}: there is no setting {name:?}"))
                .hint(format!("there are {}", known.join(", "))));
        };
        let source = given.value_source(arg.get_id().as_str());
        if matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let flag = arg.get_long().unwrap_or_default();
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        match value {
            Value::Boolean(true) if is_switch => args.push(format!("--{flag}").into()),
            Value::Boolean(false) if is_switch => {}
            Value::String(text) if !is_switch => args.push(format!("--{flag}={text}").into()),
            Value::Integer(number) if !is_switch => args.push(format!("--{flag}={number}").into()),
            _ => {
                let wanted = if is_switch { "true or false" } else { "text or a whole number" };
                return Err(refused(path, format!("line {line}: {name} takes {wanted}")));
            }
        }
    }
    // What clap says of a value must name the file, not an option that nobody typed.
    let typed = [OsString::from("relive"), VERB.into()].into_iter().chain(args.iter().cloned());
    if let Err(error) = Cli::command().try_get_matches_from(typed) {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return Err(refused(path, first));
    }
    Ok(args)
}

/// The line on which a key stands, from 1.
fn line_of(text: &str, name: &str) -> usize {
    let is_it =
        |line: &str| line.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(is_it).map_or(1, |at| at + 1)
}
