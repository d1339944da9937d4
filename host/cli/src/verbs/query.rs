//! `relive query ID [KEY]`: one published value as it is, or a table of all.

use crate::{
    Context,
    client::decode,
    exit::{Exit, Failure},
    output::{self, Table, compact},
    wire::{Value, Values},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The execution's id
    id: String,
    /// The published key; all of them if absent
    key: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = &context.client;
    let answer = match &args.key {
        Some(key) => client.get(&client.execution(&args.id, &["queries", key]))?,
        None => client.get(&client.execution(&args.id, &["queries"]))?,
    };
    if context.global.json {
        output::line(&answer)?;
    } else if args.key.is_some() {
        output::line(decode::<Value>(&answer)?.value.as_str())?;
    } else {
        let values: Values = decode(&answer)?;
        let mut table = Table::new(&["KEY", "VALUE", "SET AT EVENT"]);
        for value in values.values {
            table.row([value.key, compact(&value.value), value.event_id.to_string()]);
        }
        output::line(&table.render())?;
    }
    Ok(Exit::Ok)
}
