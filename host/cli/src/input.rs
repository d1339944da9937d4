//! `--input` and `--input-file`: users' JSON from the command line, a file, or standard input.

use std::{io::Read, path::PathBuf};

use clap::Args;
use relive_core::Json;

use crate::{
    client::user_json,
    exit::{Exit, Failure},
};

/// Larger inputs are refused by every host; reading stops here.
const MAX_INPUT_BYTES: u64 = 16 << 20;

#[derive(Debug, Args)]
pub struct Input {
    /// The input as JSON; `null` if absent
    #[arg(long, value_name = "JSON")]
    input: Option<String>,
    /// A file with the input, or `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    input_file: Option<PathBuf>,
}

impl Input {
    /// The input, checked.
    pub fn read(&self) -> Result<Json, Failure> {
        match (&self.input, &self.input_file) {
            (Some(text), _) => user_json(text, "--input"),
            (None, Some(path)) if path.as_os_str() == "-" => {
                user_json(&read_all(std::io::stdin(), "standard input")?, "standard input")
            }
            (None, Some(path)) => {
                let name = path.display().to_string();
                let file = std::fs::File::open(path).map_err(|e| unreadable(&name, &e))?;
                user_json(&read_all(file, &name)?, &name)
            }
            (None, None) => Ok(Json::null()),
        }
    }
}

fn read_all(from: impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(MAX_INPUT_BYTES).read_to_string(&mut text).map_err(|e| unreadable(name, &e))?;
    Ok(text)
}

/// A file that cannot be read.
pub fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, "unreadable", format!("failed to read {name}: {error}"))
}
