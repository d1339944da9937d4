//! JSON on a line of a table, and indented.

use relive_core::Json;

/// On one line, without needless space.
#[must_use]
pub fn compact(json: &Json) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.as_str().chars() {
        if in_string {
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

/// Indented for people; numbers and strings stay as they were written.
pub struct Indented<'a>(pub &'a Json);

impl std::fmt::Display for Indented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        let text = compact(self.0);
        let mut depth = 0usize;
        let (mut in_string, mut escaped) = (false, false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if in_string {
                (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
                f.write_char(c)?;
                continue;
            }
            match c {
                '{' | '[' => match chars.next_if(|next| matches!(next, '}' | ']')) {
                    Some(close) => write!(f, "{c}{close}")?,
                    None => {
                        depth += 1;
                        write!(f, "{c}\n{:width$}", "", width = depth * 2)?;
                    }
                },
                '}' | ']' => {
                    depth = depth.saturating_sub(1);
                    write!(f, "\n{:width$}{c}", "", width = depth * 2)?;
                }
                ',' => write!(f, ",\n{:width$}", "", width = depth * 2)?,
                ':' => f.write_str(": ")?,
                '"' => {
                    in_string = true;
                    f.write_char(c)?;
                }
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_inside_strings_is_left_alone() {
        let json = Json::parse("{ \"a b\" : [1.0, { }, \"{\\\" ,\"] }").expect("JSON");
        assert_eq!(compact(&json), "{\"a b\":[1.0,{},\"{\\\" ,\"]}");
        assert_eq!(Indented(&json).to_string(), "{\n  \"a b\": [\n    1.0,\n    {},\n    \"{\\\" ,\"\n  ]\n}");
    }
}
