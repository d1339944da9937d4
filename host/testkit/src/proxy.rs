//! A TCP proxy that fails on purpose: cuts, stalls, delays, refuses, and loses replies on their way.
//!
//! Knows no protocol. Standard library alone, so that crates below the testkit may include the file in their tests.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What is done with bytes that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode {
    /// Nothing gets through, and nothing is closed.
    stalled: bool,
    /// New connections are closed at once.
    refusing: bool,
    /// Each piece waits for that long.
    delay: Duration,
}

struct Shared {
    upstream: SocketAddr,
    mode: Mutex<Mode>,
    changed: Condvar,
    links: Mutex<Vec<(TcpStream, TcpStream)>>,
    /// Replies that are still to be lost.
    lose: AtomicUsize,
    lost: AtomicUsize,
    stop: AtomicBool,
}

/// The proxy; it ends, and cuts everything, when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on a free port, for one upstream.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            mode: Mutex::default(),
            changed: Condvar::new(),
            links: Mutex::default(),
            lose: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || accept(&listener, &theirs))?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    fn set(&self, change: impl FnOnce(&mut Mode)) {
        change(&mut lock(&self.shared.mode));
        self.shared.changed.notify_all();
    }

    /// Closes all connections, in the middle of whatever they are at.
    pub fn cut(&self) {
        for (client, server) in lock(&self.shared.links).drain(..) {
            close(&client, &server);
        }
    }

    /// Lets nothing through until [`Proxy::pass`].
    pub fn stall(&self) {
        self.set(|mode| mode.stalled = true);
    }

    /// Closes new connections at once, until [`Proxy::pass`].
    pub fn refuse(&self) {
        self.set(|mode| mode.refusing = true);
    }

    /// Holds every piece back for that long, until [`Proxy::pass`].
    pub fn delay(&self, delay: Duration) {
        self.set(|mode| mode.delay = delay);
    }

    /// Lets everything through.
    pub fn pass(&self) {
        self.set(|mode| *mode = Mode::default());
    }

    /// Of the next `count` replies nothing arrives, and their connections are cut: what was asked for has been done.
    pub fn lose_replies(&self, count: usize) {
        self.shared.lose.fetch_add(count, Ordering::AcqRel);
    }

    /// How many replies were lost.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.pass();
        self.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn close(client: &TcpStream, server: &TcpStream) {
    // They may be closed already.
    drop((client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both)));
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(client) = client else { continue };
        if lock(&shared.mode).refusing {
            continue;
        }
        if let Err(error) = link(client, shared) {
            eprintln!("proxy: {error}");
        }
    }
}

/// Joins a client with the upstream: two threads, one a direction.
fn link(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(shared.upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    lock(&shared.links).push((client.try_clone()?, server.try_clone()?));
    for is_reply in [false, true] {
        let (client, server, shared) = (client.try_clone()?, server.try_clone()?, shared.clone());
        std::thread::Builder::new().name("proxy-link".to_owned()).spawn(move || {
            let done =
                if is_reply { carry(&server, &client, &shared, true) } else { carry(&client, &server, &shared, false) };
            drop(done);
            close(&client, &server);
        })?;
    }
    Ok(())
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, is_reply: bool) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut mode = lock(&shared.mode);
        while mode.stalled {
            mode = shared.changed.wait(mode).unwrap_or_else(PoisonError::into_inner);
        }
        let delay = mode.delay;
        drop(mode);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let lose = |left: usize| left.checked_sub(1);
        if is_reply && shared.lose.fetch_update(Ordering::AcqRel, Ordering::Acquire, lose).is_ok() {
            shared.lost.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that answers each byte with the same.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        let mut answer = [0];
        stream.write_all(&[7])?;
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn it_passes_cuts_loses_refuses_and_stalls() {
        let proxy = Proxy::start(echo()).unwrap();
        let connect = || TcpStream::connect(proxy.address).unwrap();
        let mut stream = connect();
        assert_eq!(ask(&mut stream).unwrap(), 7);
        proxy.lose_replies(1);
        assert!(ask(&mut stream).is_err());
        assert_eq!((proxy.lost(), ask(&mut connect()).unwrap()), (1, 7));
        let mut stream = connect();
        ask(&mut stream).unwrap();
        proxy.cut();
        assert!(ask(&mut stream).is_err());
        proxy.refuse();
        assert!(ask(&mut connect()).is_err());
        proxy.pass();
        let mut stream = connect();
        ask(&mut stream).unwrap();
        proxy.stall();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(ask(&mut stream).is_err());
        proxy.pass();
        let mut late = [0];
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut late).unwrap();
        assert_eq!(late, [7]);
    }
}
