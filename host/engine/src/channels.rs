//! The channels that a component's workflows declare, read from the inspection that the catalog keeps with it.
//!
//! Owns the judgement of a message's channel, and the words of its refusal. Must not know where inspections come from.

use relive_core::{Error, ErrorKind, Json};
use serde::Deserialize;

/// Declared channels that a refusal names; a longer list helps nobody.
const MAX_NAMED: usize = 20;

/// A workflow in its component's words. Of inspections, only this concerns messages.
#[derive(Debug, Deserialize)]
struct Held {
    name: String,
    #[serde(default)]
    channels: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Inspected {
    #[serde(default)]
    descriptions: Vec<Held>,
}

/// What the workflows of one component declare. Never changes: a component is known by its digest.
#[derive(Debug)]
pub(crate) struct Declared(Vec<Held>);

impl Declared {
    /// An inspection of another form declares nothing: its factory is not the sandbox's.
    pub fn of(inspection: &Json) -> Self {
        Self(serde_json::from_str::<Inspected>(inspection.as_str()).unwrap_or_default().descriptions)
    }

    /// `None`: any channel. A component's only workflow may be deployed under another name than its own.
    fn channels(&self, workflow: &str) -> Option<&[String]> {
        let held = match self.0.as_slice() {
            [only] => Some(only),
            many => many.iter().find(|held| held.name == workflow),
        };
        held?.channels.as_deref()
    }

    /// Refuses a message that nothing in the workflow would ever read.
    pub fn check(&self, workflow: &str, channel: &str) -> Result<(), Error> {
        let Some(channels) = self.channels(workflow) else {
            return Ok(());
        };
        if channels.iter().any(|declared| declared == channel) {
            return Ok(());
        }
        let message = if channels.is_empty() {
            format!(
                "workflow {workflow} takes no messages, also none on channel {channel:?}; if it is to read them, \
                 declare the channel in its source, deploy it, and start anew"
            )
        } else {
            format!(
                "workflow {workflow} does not read channel {channel:?}; it reads {}: send to one of these, or declare \
                 the channel in its source, deploy it, and start anew",
                named(channels)
            )
        };
        Err(Error::new(ErrorKind::SignalDispatcher, "unknown-channel", message))
    }
}

fn named(channels: &[String]) -> String {
    let shown: Vec<_> = channels.iter().take(MAX_NAMED).map(|channel| format!("{channel:?}")).collect();
    match channels.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(inspection: &str) -> Declared {
        Declared::of(&Json::parse(inspection).expect("JSON"))
    }

    #[test]
    fn the_only_workflow_goes_by_any_name_and_many_by_their_own() {
        let one = declared(r#"{"kind": "workflow", "descriptions": [{"name": "a", "channels": ["go"]}]}"#);
        one.check("a", "go").expect("declared");
        one.check("other", "go").expect("declared");
        assert_eq!(one.check("other", "stop").expect_err("undeclared").code, "unknown-channel");

        let two =
            r#"{"descriptions": [{"name": "a", "channels": []}, {"name": "b", "channels": ["go"]}, {"name": "c"}]}"#;
        let two = declared(two);
        let error = two.check("a", "go").expect_err("it takes none");
        assert_eq!(error.kind, ErrorKind::SignalDispatcher);
        assert!(error.message.contains("takes no messages") && error.message.contains("\"go\""), "{error}");
        two.check("b", "go").expect("declared");
        two.check("c", "anything").expect("it declares none");
    }

    #[test]
    fn an_inspection_that_says_nothing_allows_everything() {
        for inspection in ["null", "{}", "[1]", r#"{"descriptions": [{"name": "a", "channels": null}]}"#] {
            declared(inspection).check("a", "go").expect(inspection);
        }
    }

    #[test]
    fn a_refusal_names_so_many_and_counts_the_others() {
        let names: Vec<String> = (0..25).map(|n| format!("c{n}")).collect();
        let inspection = serde_json::json!({ "descriptions": [{ "name": "a", "channels": names }] });
        let error = declared(&inspection.to_string()).check("a", "go").expect_err("undeclared");
        assert!(error.message.contains("\"c19\" and 5 more:"), "{error}");
    }
}
