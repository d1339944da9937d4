//! What another component changes for those who use its workflows: imports, exports, workflows, schemas, channels. Told
//! from what admission found out, without running anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Changes that are told; a component that differs in more is another one altogether.
const MAX_CHANGES: usize = 200;
/// How deep schemas are compared.
const MAX_DEPTH: usize = 16;

/// One difference between two components.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Change {
    /// `import`, `export`, `workflow`, `channel`, `input-schema` or `output-schema`.
    pub what: &'static str,
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// The import, export, workflow or channel; the place in the schema.
    pub name: String,
    /// Callers that were right before may be refused, or may not understand what they get.
    pub breaking: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Change {
    fn new(what: &'static str, change: &'static str, name: impl Into<String>) -> Self {
        Self { what, change, name: name.into(), breaking: false, detail: String::new() }
    }

    fn breaking(mut self, breaking: bool) -> Self {
        self.breaking = breaking;
        self
    }

    fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// What `new` changes of `old`; both as `relive inspect --json` shows them.
pub(crate) fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    for (what, key) in [("import", "imports"), ("export", "exports")] {
        let (before, after) = (names(&old[key]), names(&new[key]));
        changes.extend(after.difference(&before).map(|name| Change::new(what, "added", *name)));
        changes.extend(before.difference(&after).map(|name| Change::new(what, "removed", *name)));
    }
    let (before, after) = (described(old), described(new));
    for (name, workflow) in &before {
        let Some(next) = after.get(name) else {
            changes.push(Change::new("workflow", "removed", *name).breaking(true));
            continue;
        };
        channels(name, &workflow["channels"], &next["channels"], &mut changes);
        // What callers send must still be taken; what they get must be no more than they knew.
        let mut found = Vec::new();
        narrowed(&workflow["input_schema"], &next["input_schema"], "input", 0, &mut found);
        tell("input-schema", name, &workflow["input_schema"], &next["input_schema"], found, &mut changes);
        let mut found = Vec::new();
        narrowed(&next["output_schema"], &workflow["output_schema"], "output", 0, &mut found);
        tell("output-schema", name, &workflow["output_schema"], &next["output_schema"], found, &mut changes);
    }
    let added = after.keys().filter(|name| !before.contains_key(*name));
    changes.extend(added.map(|name| Change::new("workflow", "added", *name)));
    changes.truncate(MAX_CHANGES);
    changes
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn described(inspection: &Value) -> BTreeMap<&str, &Value> {
    let all = inspection["descriptions"].as_array().into_iter().flatten();
    all.filter_map(|d| Some((d["name"].as_str()?, d))).collect()
}

fn channels(workflow: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    match (old.is_array(), new.is_array()) {
        // Undeclared channels: any message is taken.
        (false, false) => {}
        (true, false) => changes.push(
            Change::new("channel", "changed", workflow).because("channels are not declared any more: any is taken"),
        ),
        (declared, _) => {
            let (before, after) = (names(old), names(new));
            if !declared {
                let detail = "channels are declared now: messages to others are refused";
                changes.push(Change::new("channel", "changed", workflow).breaking(true).because(detail));
            }
            let name = |channel: &&str| format!("{workflow}: {channel}");
            changes.extend(
                after.difference(&before).filter(|_| declared).map(|c| Change::new("channel", "added", name(c))),
            );
            changes
                .extend(before.difference(&after).map(|c| Change::new("channel", "removed", name(c)).breaking(true)));
        }
    }
}

fn tell(
    what: &'static str,
    workflow: &str,
    old: &Value,
    new: &Value,
    found: Vec<(String, String)>,
    out: &mut Vec<Change>,
) {
    if old == new {
        return;
    }
    if found.is_empty() {
        out.push(Change::new(what, "changed", workflow).because("whatever fitted before fits now"));
    }
    let change =
        |(place, detail)| Change::new(what, "changed", format!("{workflow}: {place}")).breaking(true).because(detail);
    out.extend(found.into_iter().map(change));
}

/// Where a value that fits `wide` may not fit `narrow`: places, and why. Finds what people change; what it cannot judge (a
/// keyword that is none of these and differs) it tells as well.
fn narrowed(wide: &Value, narrow: &Value, place: &str, depth: usize, found: &mut Vec<(String, String)>) {
    if wide == narrow || narrow.is_null() || *narrow == Value::Bool(true) || depth > MAX_DEPTH {
        return;
    }
    let mut say = |place: &str, what: String| found.push((place.to_owned(), what));
    if wide.is_null() || *wide == Value::Bool(true) {
        return say(place, "anything was allowed, and a schema limits it now".to_owned());
    }
    let (Some(before), Some(after)) = (wide.as_object(), narrow.as_object()) else {
        return say(place, "nothing fits any more".to_owned());
    };
    let (had, has) = (types(wide), types(narrow));
    if let Some(has) = &has {
        let gone: Vec<&str> = match &had {
            Some(had) => had
                .iter()
                .copied()
                .filter(|t| !(has.contains(t) || *t == "integer" && has.contains("number")))
                .collect(),
            None => vec!["other types"],
        };
        if !gone.is_empty() {
            say(place, format!("{} allowed no more", gone.join(", ") + if gone.len() == 1 { " is" } else { " are" }));
        }
    }
    if let Some(allowed) = narrow["enum"].as_array() {
        match wide["enum"].as_array() {
            Some(values) => {
                let gone: Vec<String> =
                    values.iter().filter(|v| !allowed.contains(v)).map(ToString::to_string).collect();
                if !gone.is_empty() {
                    say(place, format!("{} is no more among the values", gone.join(", ")));
                }
            }
            None => say(place, "only some values are allowed now".to_owned()),
        }
    }
    let required = |schema: &Value| names(&schema["required"]).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    for name in required(narrow).difference(&required(wide)) {
        say(&format!("{place}.{name}"), "is required now".to_owned());
    }
    bounds(wide, narrow, place, &mut say);
    judged_apart(before, after, place, &mut say);
    let closed = narrow["additionalProperties"] == Value::Bool(false);
    if closed && wide["additionalProperties"] != Value::Bool(false) {
        say(place, "other properties are refused now".to_owned());
    }
    let empty = serde_json::Map::new();
    let properties = |schema: &'_ Value| schema["properties"].as_object().cloned().unwrap_or_else(|| empty.clone());
    let (before, after) = (properties(wide), properties(narrow));
    for (name, was) in &before {
        match after.get(name) {
            Some(is) => narrowed(was, is, &format!("{place}.{name}"), depth + 1, found),
            None if closed => found.push((format!("{place}.{name}"), "is refused now".to_owned())),
            None => {}
        }
    }
    narrowed(&wide["items"], &narrow["items"], &format!("{place}[]"), depth + 1, found);
}

fn types(schema: &Value) -> Option<BTreeSet<&str>> {
    match &schema["type"] {
        Value::String(one) => Some(BTreeSet::from([one.as_str()])),
        Value::Array(some) => Some(some.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn bounds(wide: &Value, narrow: &Value, place: &str, say: &mut impl FnMut(&str, String)) {
    for (key, upwards) in [
        ("minimum", false),
        ("exclusiveMinimum", false),
        ("minLength", false),
        ("minItems", false),
        ("minProperties", false),
        ("maximum", true),
        ("exclusiveMaximum", true),
        ("maxLength", true),
        ("maxItems", true),
        ("maxProperties", true),
    ] {
        let Some(limit) = narrow[key].as_f64() else { continue };
        let looser = wide[key].as_f64().is_none_or(|before| if upwards { before > limit } else { before < limit });
        if looser {
            say(place, format!("{key} is {limit} now"));
        }
    }
}

/// Keywords whose meaning is not compared: told if they differ.
fn judged_apart(
    before: &serde_json::Map<String, Value>,
    after: &serde_json::Map<String, Value>,
    place: &str,
    say: &mut impl FnMut(&str, String),
) {
    for key in ["const", "pattern", "format", "oneOf", "anyOf", "allOf", "not", "$ref", "multipleOf", "uniqueItems"] {
        if after.get(key).is_some_and(|is| before.get(key) != Some(is)) {
            say(place, format!("{key} is another now"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn narrowings(wide: &Value, narrow: &Value) -> Vec<String> {
        let mut found = Vec::new();
        narrowed(wide, narrow, "input", 0, &mut found);
        found.into_iter().map(|(place, what)| format!("{place}: {what}")).collect()
    }

    #[test]
    fn what_callers_would_feel_is_found() {
        let order = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string"}, "amount": {"type": ["integer", "null"], "minimum": 1}, "kind": {"enum": ["a", "b"]}}});
        assert!(narrowings(&order, &order).is_empty());
        let mut next = order.clone();
        next["required"] = json!(["id", "currency"]);
        assert_eq!(narrowings(&order, &next), ["input.currency: is required now"]);
        assert!(narrowings(&next, &order).is_empty(), "the other way round nobody feels it");
        let mut next = order.clone();
        next["properties"]["amount"] = json!({"type": "number", "minimum": 10});
        assert_eq!(
            narrowings(&order, &next),
            ["input.amount: null is allowed no more", "input.amount: minimum is 10 now"]
        );
        let mut next = order.clone();
        next["properties"]["kind"]["enum"] = json!(["b", "c"]);
        assert_eq!(narrowings(&order, &next), ["input.kind: \"a\" is no more among the values"]);
        let mut next = order.clone();
        next["additionalProperties"] = json!(false);
        next["properties"].as_object_mut().unwrap().remove("kind");
        assert_eq!(
            narrowings(&order, &next),
            ["input: other properties are refused now", "input.kind: is refused now"]
        );
        assert_eq!(narrowings(&json!(null), &order).len(), 1);
        assert!(narrowings(&order, &json!(true)).is_empty());
        assert_eq!(narrowings(&order, &json!(false)), ["input: nothing fits any more"]);
        let list = |of: &str| json!({"type": "array", "items": {"type": of}});
        assert_eq!(narrowings(&list("number"), &list("integer")), ["input[]: number is allowed no more"]);
        assert!(narrowings(&list("integer"), &list("number")).is_empty());
    }

    #[test]
    fn components_are_compared() {
        let one = |imports: &[&str], workflows: Value| json!({"imports": imports, "exports": ["start"], "descriptions": workflows});
        let old = one(
            &["a", "b"],
            json!([
            {"name": "order", "channels": ["pay", "ship"], "input_schema": {"type": "string"}, "output_schema": null},
            {"name": "bill", "channels": null}]),
        );
        let new = one(
            &["b", "c"],
            json!([
            {"name": "order", "channels": ["pay", "stop"], "input_schema": {"type": ["string", "null"]}, "output_schema": null},
            {"name": "refund", "channels": null}]),
        );
        let told: Vec<String> =
            changes(&old, &new).iter().map(|c| format!("{} {} {} {}", c.what, c.change, c.name, c.breaking)).collect();
        assert_eq!(
            told,
            [
                "import added c false",
                "import removed a false",
                "workflow removed bill true",
                "channel added order: stop false",
                "channel removed order: ship true",
                "input-schema changed order false",
                "workflow added refund false",
            ]
        );
        assert!(changes(&old, &old).is_empty());
    }

    #[test]
    fn a_wider_output_is_felt() {
        let one = |output: Value| json!({"descriptions": [{"name": "w", "output_schema": output}]});
        let told = changes(&one(json!({"type": "string"})), &one(json!({"type": ["string", "null"]})));
        assert_eq!((told.len(), told[0].breaking, told[0].what), (1, true, "output-schema"));
        assert!(!changes(&one(json!({"type": ["string", "null"]})), &one(json!({"type": "string"})))[0].breaking);
    }
}
