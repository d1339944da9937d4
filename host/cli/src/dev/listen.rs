//! Where `dev` may listen, and why it could not.

use std::{io::ErrorKind, net::SocketAddr};

use crate::exit::{Exit, Failure};

/// Reads `ADDRESS:PORT` and refuses what other machines could reach.
pub fn loopback(text: &str) -> Result<SocketAddr, Failure> {
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let address: SocketAddr = numeric.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is no address to listen on"))
            .hint("give it as 127.0.0.1:7474; port 0 takes a free one")
    })?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let message =
        format!("`dev` does not listen on {address}: it asks for no credentials, so only this machine may reach it");
    Err(Failure::new(Exit::Usage, "not-loopback", message)
        .hint("listen on 127.0.0.1 or [::1]; for other machines, tunnel to it (ssh -L)"))
}

/// Refuses a NATS server that may be another machine's: whoever reaches it could be a worker.
pub fn loopback_nats(urls: &str) -> Result<(), Failure> {
    for url in urls.split(',') {
        let rest = url.trim().split_once("://").map_or(url.trim(), |(_, rest)| rest);
        let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
        let name = match address.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => address.split(':').next().unwrap_or_default(),
        };
        if name != "localhost" && !name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            let message = format!(
                "`dev` does not take workers from NATS at {name:?}: it asks for no credentials, so only this machine may reach it"
            );
            return Err(Failure::new(Exit::Usage, "not-loopback", message)
                .hint("name a server as nats://127.0.0.1:4222, which listens there alone (nats-server -a 127.0.0.1)"));
        }
    }
    Ok(())
}

/// The listener could not be opened.
pub fn refused(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => {
            Failure::new(Exit::Conflict, "address-in-use", format!("something listens on {address} already")).hint(
                "it may be another `relive dev` (`relive doctor` tells); or take a free port with --listen 127.0.0.1:0",
            )
        }
        ErrorKind::PermissionDenied => {
            Failure::new(Exit::Failed, "address-refused", format!("this user may not listen on {address}"))
                .hint("take a port above 1023")
        }
        _ => Failure::new(Exit::Failed, "address-refused", format!("failed to listen on {address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nats_of_this_machine_passes() {
        for good in ["nats://127.0.0.1:4222", "localhost", "nats://a:b@localhost:1", "tls://[::1]:4222"] {
            assert!(loopback_nats(good).is_ok(), "{good}");
        }
        for bad in ["nats://10.0.0.1:4222", "nats://localhost@evil.example", "nats://127.0.0.1, nats://b", "nats://"] {
            let failure = loopback_nats(bad).expect_err(bad);
            assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, "not-loopback"), "{bad}");
        }
    }

    #[test]
    fn only_loopback_addresses_pass() {
        for good in ["127.0.0.1:7474", "localhost:0", "[::1]:1", "http://127.0.0.1:80/", "127.9.9.9:5"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for (bad, code) in [
            ("0.0.0.0:7474", "not-loopback"),
            ("[::]:1", "not-loopback"),
            ("192.168.1.2:80", "not-loopback"),
            ("7474", "usage"),
            ("evil.example:80", "usage"),
        ] {
            let failure = loopback(bad).expect_err(bad);
            assert_eq!((failure.exit, failure.code.as_str()), (Exit::Usage, code), "{bad}");
        }
    }
}
