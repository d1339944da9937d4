//! `docs/configuration.md`: every setting of `relive serve`, from clap's list of options.

use super::file;

const HEAD: &str = "\
# Configuration

`relive serve` reads its settings from the command line, then from the environment, then from a TOML file
(`--config FILE`, `RELIVE_CONFIG`, or `relive-server.toml` in the working directory). The first that says something
counts. Keys of the file are the options' names with underscores:

```toml
store = \"postgres://relive:secret@db.internal/relive\"
listen = \"0.0.0.0:7474\"
advertise = \"http://10.0.0.5:7474\"
host_id = \"a\"
insecure = true
```

Generated from the program's options by a test; do not edit.

| key | option | environment | default | meaning |
|---|---|---|---|---|
";

/// The document's text.
#[must_use]
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    let Some(command) = file::command() else { return text };
    for arg in file::options(&command) {
        let env = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let default: Vec<String> =
            arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
        let help =
            arg.get_long_help().or(arg.get_help()).map(|help| help.to_string().replace('\n', " ")).unwrap_or_default();
        let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| arg.get_action().takes_values());
        let flag = match value {
            Some(value) => format!("--{} {value}", arg.get_long().unwrap_or_default()),
            None => format!("--{}", arg.get_long().unwrap_or_default()),
        };
        text += &format!("| `{}` | `{flag}` | {env} | {} | {help} |\n", file::key(arg), default.join(", "));
    }
    text
}
