//! Following a live stream of the host (server-sent events) to its end, across restarts of the host: each new request
//! names the last event that was seen, so that none is missed and none comes twice.

use std::{
    io::{BufRead, BufReader},
    time::{Duration, Instant},
};

use crate::{
    Context,
    client::Route,
    exit::{Exit, Failure},
    output,
};

/// A host that was killed is back within this, or somebody has to look.
const HOST_AWAY: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: String,
}

/// Hands each event to `take` until the stream says that it has ended (`end`).
pub fn follow(
    context: &Context,
    route: &Route,
    mut take: impl FnMut(&Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last: Option<String> = None;
    let mut away_since: Option<Instant> = None;
    let mut answered = false;
    loop {
        match context.client.stream(route, last.as_deref()) {
            // Nothing comes after the last event.
            Ok(None) => return Ok(()),
            Ok(Some(body)) => {
                (answered, away_since) = (true, None);
                let mut lines = BufReader::new(body);
                while let Some(event) = read(&mut lines) {
                    if event.name == "end" {
                        return Ok(());
                    }
                    take(&event)?;
                    last = event.id.or(last);
                }
            }
            // A host that answered before is being restarted.
            Err(failure) if !answered || (failure.exit != Exit::Unreachable && failure.code != "shutting-down") => {
                return Err(failure);
            }
            Err(failure) => {
                if away_since.is_some_and(|since| since.elapsed() > HOST_AWAY) {
                    return Err(failure);
                }
            }
        }
        away_since.get_or_insert_with(|| {
            output::note(context, "the host is away; waiting for it to come back");
            Instant::now()
        });
        std::thread::sleep(RETRY);
    }
}

/// Hands each event of a stream that is not begun again to `take`, to its end.
pub fn once(body: impl std::io::Read, mut take: impl FnMut(&Event) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut lines = BufReader::new(body);
    while let Some(event) = read(&mut lines) {
        if event.name == "end" {
            return Ok(());
        }
        take(&event)?;
    }
    Err(Failure::new(Exit::Unreachable, "broken-off", "the host broke off; ask again"))
}

/// The next event; none if the stream breaks off. An event that is cut off is none: it comes again.
fn read(lines: &mut impl BufRead) -> Option<Event> {
    let mut event = Event::default();
    let mut data: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            if data.is_empty() {
                event = Event::default();
                continue;
            }
            event.data = data.join("\n");
            return Some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => event.id = Some(value.to_owned()),
            "data" => data.push(value.to_owned()),
            // A comment, or what a newer host sends.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_standard_says() {
        let mut text = "retry: 1000\n: hello\n\nid: 1\nevent: log\ndata: {\ndata: }\n\n: keep-alive\n\nevent: end\ndata: 1\n\ndata: cut"
            .as_bytes();
        let first = Event { name: "log".to_owned(), id: Some("1".to_owned()), data: "{\n}".to_owned() };
        assert_eq!(read(&mut text), Some(first));
        assert_eq!(read(&mut text).map(|event| event.name), Some("end".to_owned()));
        assert_eq!(read(&mut text), None);
    }
}
