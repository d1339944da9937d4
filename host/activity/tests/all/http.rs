//! Outgoing HTTP: granted hosts answer, all others are refused before anything is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use relive_activity::{Grants, WasmLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::guest::http;
use crate::support::Deployment;

/// The number of `HTTP-request-denied` in `error-code`.
const DENIED: &str = "015";

/// A server that answers every connection with this head; and how many it had.
async fn server(head: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    (address, count)
}

fn deploy(hosts: &[&str]) -> Deployment {
    let http_hosts = hosts.iter().map(|host| host.parse().expect("a host")).collect();
    let grants = Grants { http: http_hosts, ..Grants::default() };
    Deployment::new(http(), &["get"], &grants, WasmLimits::default())
}

#[tokio::test]
async fn a_granted_host_is_asked() {
    let (address, count) = server("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").await;
    for granted in [address.clone(), format!("http://{address}")] {
        assert_eq!(deploy(&[&granted]).ok("get", &format!("\"{address}\"")).await, "204");
    }
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn any_other_host_is_refused() {
    let (address, count) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let https = format!("https://{address}");
    for hosts in [&[][..], &["127.0.0.1:1"][..], &[https.as_str()][..], &["localhost:80"][..]] {
        let failure = deploy(hosts).fails("get", &format!("\"{address}\"")).await;
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("http", DENIED), "granted: {hosts:?}");
    }
    let user = deploy(&[&address]).fails("get", &format!("\"user@{address}\"")).await;
    assert_eq!(user.message, DENIED);
    assert_eq!(count.load(Ordering::SeqCst), 0, "something was sent");
}

#[tokio::test]
async fn the_host_follows_no_redirect() {
    let (elsewhere, followed) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let head = format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let (address, count) = server(Box::leak(head.into_boxed_str())).await;
    assert_eq!(deploy(&[&address]).ok("get", &format!("\"{address}\"")).await, "302");
    assert_eq!((count.load(Ordering::SeqCst), followed.load(Ordering::SeqCst)), (1, 0));
}
