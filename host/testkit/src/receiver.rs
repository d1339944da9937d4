//! A receiver of http activities: an HTTP server on a port of this machine that answers as a test says, keeps what it
//! got, and verifies signatures as a stranger would: by the headers, the public key set and the standards alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Received {
    /// A header's value; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }

    /// Checks digest and signature (RFC 9421, RFC 9530) against a JWK set. `origin` is how this server is called.
    pub fn verify(&self, origin: &str, keys: &Value) -> Result<(), String> {
        let expected = format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, &self.body)));
        if self.header("content-digest") != expected {
            return Err(format!("the digest is {}, not {expected}", self.header("content-digest")));
        }
        let input = self.header("signature-input");
        let parameters = input.strip_prefix("relive=").ok_or("no signature of this label")?;
        let (covered, rest) = parameters.split_once(')').ok_or("no list of components")?;
        let mut base = String::new();
        for name in covered.trim_start_matches('(').split(' ') {
            let value = match name.trim_matches('"') {
                "@method" => self.method.clone(),
                "@target-uri" => format!("{origin}{}", self.path),
                header => self.headers.get(header).cloned().ok_or(format!("{header} is not there"))?,
            };
            base.push_str(&format!("{name}: {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let kid = rest.split(';').find_map(|p| p.strip_prefix("keyid=")).ok_or("no keyid")?.trim_matches('"');
        let all = keys["keys"].as_array().ok_or("no set of keys")?;
        let key = all.iter().find(|key| key["kid"] == kid).ok_or_else(|| format!("no key {kid} in {keys}"))?;
        let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
        let signature = self.header("signature");
        let signature = signature.strip_prefix("relive=:").and_then(|s| s.strip_suffix(':')).ok_or("no signature")?;
        let signature = STANDARD.decode(signature).map_err(|e| e.to_string())?;
        UnparsedPublicKey::new(&ED25519, public)
            .verify(base.as_bytes(), &signature)
            .map_err(|_| format!("the signature does not hold for:\n{base}"))
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, headers beside the length, body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A success whose body has that many bytes, or as many as are taken.
    Long { bytes: usize, announced: bool },
    /// Nothing, until the caller is gone.
    Silence,
    /// The connection is closed.
    HangUp,
}

impl Answer {
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::Whole(status, vec![("content-type", "application/json".to_owned())], body.as_bytes().to_vec())
    }
}

type Script = dyn Fn(&Received) -> Answer + Send + Sync;

/// The server. Its threads end with it and with their callers.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    /// Calls that were given up while they got no answer.
    given_up: AtomicUsize,
    /// Bytes of long answers that were sent.
    sent: AtomicUsize,
    stop: AtomicBool,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Receiver {
    /// Listens on 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if own.stop.load(Ordering::SeqCst) {
                    return;
                }
                own.connections.fetch_add(1, Ordering::SeqCst);
                let own = own.clone();
                std::thread::spawn(move || own.serve(&stream));
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// All requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn given_up(&self) -> usize {
        self.shared.given_up.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which looks at the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader) {
            let script = lock(&self.script).clone();
            lock(&self.received).push(request.clone());
            match script(&request) {
                Answer::Whole(status, headers, body) => {
                    let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
                    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
                    let whole = [head.as_bytes(), b"\r\n", &body].concat();
                    if (&*stream).write_all(&whole).is_err() {
                        return;
                    }
                }
                Answer::Long { bytes, announced } => return self.write_long(stream, bytes, announced),
                Answer::Silence => {
                    let _ = reader.read(&mut [0]);
                    self.given_up.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Answer::HangUp => return,
            }
        }
    }

    fn write_long(&self, mut stream: &TcpStream, bytes: usize, announced: bool) {
        let head = match announced {
            true => format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n"),
            false => "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(),
        };
        let piece = [b'7'; 64 << 10];
        let mut left = bytes;
        let mut going = stream.write_all(head.as_bytes()).is_ok();
        while going && left > 0 {
            let next = left.min(piece.len());
            going = stream.write_all(&piece[..next]).is_ok();
            left -= next;
            self.sent.fetch_add(next, Ordering::SeqCst);
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Received> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Received { method, path, headers, body })
}
