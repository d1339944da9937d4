//! Whether a host answers, and which.

use std::time::Duration;

use super::Check;
use crate::{
    client::{Client, Route, decode},
    exit::Exit,
    output::duration,
    wire::HostStatus,
};

const NAME: &str = "host";

pub fn reachable(client: &Client) -> Check {
    let status = client.get(&Route::fixed("/v1/status")).and_then(|answer| decode::<HostStatus>(&answer));
    let ours = env!("CARGO_PKG_VERSION");
    match status {
        Ok(host) => {
            let nanos = Duration::from_millis(host.uptime_ms).as_nanos();
            let up = duration(u64::try_from(nanos).unwrap_or(u64::MAX));
            let found =
                format!("{} answers: version {}, process {}, up for {up}", client.server(), host.version, host.pid);
            if host.version == ours {
                Check::ok(NAME, found)
            } else {
                Check::warn(NAME, found, format!("this command line is version {ours}; use one version for both"))
            }
        }
        Err(failure) if failure.exit == Exit::Unreachable => Check::warn(
            NAME,
            format!("none answers at {}", client.server()),
            "start one with `relive dev`, or name another with --server",
        ),
        Err(failure) => Check::fail(
            NAME,
            failure.message,
            failure.hint.unwrap_or_else(|| "check the address in --server".to_owned()),
        ),
    }
}
