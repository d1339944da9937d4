//! `relive query ID [KEY]`: one published value as it is, or a table of all.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, compact},
    wire::Value,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// The published key; all of them if absent
    key: Option<String>,
}

/// All of them in one document.
#[derive(Serialize)]
struct Values {
    values: Vec<Box<RawValue>>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = &context.client;
    if let Some(key) = &args.key {
        let answer = client.get(&client.execution(&args.id, &["queries", key]))?;
        let value = if context.global.json { answer } else { decode::<Value>(&answer)?.value.as_str().to_owned() };
        output::line(&value)?;
        return Ok(Exit::Ok);
    }
    let values = client.all(&client.execution(&args.id, &["queries"]), "values")?;
    if context.global.json {
        let text = serde_json::to_string(&Values { values });
        output::line(&text.map_err(|e| Failure::new(Exit::Failed, "output", e.to_string()))?)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["KEY", "VALUE", "SET AT EVENT"]);
    for value in &values {
        let value: Value = decode(value.get())?;
        table.row([value.key, compact(&value.value), value.event_id.to_string()]);
    }
    output::line(&table.render())?;
    Ok(Exit::Ok)
}
