//! A keep-alive HTTP/1.1 connection with as little of its own cost as can be: the client shares the cores.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, bail};

pub struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
    request: Vec<u8>,
}

impl Connection {
    pub fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), address: address.to_owned(), request: Vec::new() })
    }

    /// A request whose answer nobody reads.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<()> {
        self.request.clear();
        write!(
            self.request,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        )?;
        self.request.extend_from_slice(body);
        Ok(self.stream.get_mut().write_all(&self.request)?)
    }

    /// One request; the body of its answer. Errors on a status that is not 2xx.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.send(method, path, body)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status: u16 = line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("a status line")?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    pub fn json(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.call(method, path, body)?)?)
    }
}
