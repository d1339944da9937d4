//! Capabilities of activities (feature `wasi`): environment, files in granted directories, outbound HTTP. Everything
//! is refused that the deployment does not grant. Workflows cannot use this module: they have no capabilities.

use std::io::{Error, ErrorKind, Result};
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// Most that one call of a stream takes or gives, in bytes. The interface allows no more a write.
const CHUNK: usize = 4096;

/// A variable of the granted environment.
pub fn env(name: &str) -> Option<String> {
    wasip2::cli::environment::get_environment().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The contents of a file in a granted directory. `path` is absolute, as the guest sees it, such as `/ledger/a.txt`.
pub fn read(path: &str) -> Result<Vec<u8>> {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    drain(&file.read_via_stream(0).map_err(file_error)?)
}

/// Append to a file in a granted directory, creating it if there is none. On disk when this returns.
pub fn append(path: &str, bytes: &[u8]) -> Result<()> {
    let file = open(path, OpenFlags::CREATE, DescriptorFlags::WRITE)?;
    fill(&file.append_via_stream().map_err(file_error)?, bytes)?;
    file.sync().map_err(file_error)
}

/// Create a file in a granted directory. Fails with `AlreadyExists` if there is one: of several attempts, one wins.
/// On disk when this returns.
pub fn create(path: &str, bytes: &[u8]) -> Result<()> {
    let file = open(path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE, DescriptorFlags::WRITE)?;
    fill(&file.write_via_stream(0).map_err(file_error)?, bytes)?;
    file.sync().map_err(file_error)
}

/// POST a body to a granted host: `http_post("https://api.example.com/charges", "application/json", body)`. Answers
/// the status and the body, whatever the status is.
pub fn http_post(url: &str, content_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let request = request(url, content_type)?;
    let outgoing = request.body().map_err(|()| Error::other("no request body"))?;
    let response = handle(request, None).map_err(Error::other)?;
    let stream = outgoing.write().map_err(|()| Error::other("no request body"))?;
    fill(&stream, body)?;
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(Error::other)?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(answer)) => received(&answer.map_err(Error::other)?),
        Some(Err(())) | None => Err(Error::other("no response")),
    }
}

fn request(url: &str, content_type: &str) -> Result<OutgoingRequest> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidInput, format!("{what} of {url}"));
    let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (Scheme::Https, rest),
        (None, Some(rest)) => (Scheme::Http, rest),
        (None, None) => return Err(invalid("the scheme")),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    headers.set("content-type", &[content_type.as_bytes().to_vec()]).map_err(Error::other)?;
    let request = OutgoingRequest::new(headers);
    request.set_method(&Method::Post).map_err(|()| invalid("the method"))?;
    request.set_scheme(Some(&scheme)).map_err(|()| invalid("the scheme"))?;
    request.set_authority(Some(authority)).map_err(|()| invalid("the host"))?;
    let path = if path.is_empty() { "/" } else { path };
    request.set_path_with_query(Some(path)).map_err(|()| invalid("the path"))?;
    Ok(request)
}

fn received(answer: &IncomingResponse) -> Result<(u16, Vec<u8>)> {
    let body: IncomingBody = answer.consume().map_err(|()| Error::other("no response body"))?;
    let stream = body.stream().map_err(|()| Error::other("no response body"))?;
    let bytes = drain(&stream)?;
    drop(stream);
    Ok((answer.status(), bytes))
}

/// Below the granted directory whose name is the longest prefix of the path.
fn open(path: &str, how: OpenFlags, access: DescriptorFlags) -> Result<Descriptor> {
    let below = |name: &str| {
        let rest = path.strip_prefix(name.trim_end_matches('/'))?;
        rest.strip_prefix('/').map(str::to_owned)
    };
    let granted = get_directories().into_iter().filter_map(|(folder, name)| Some((name.len(), folder, below(&name)?)));
    let Some((_, folder, rest)) = granted.max_by_key(|(length, _, _)| *length) else {
        return Err(Error::new(ErrorKind::PermissionDenied, format!("{path} is in no granted directory")));
    };
    folder.open_at(PathFlags::empty(), &rest, how, access).map_err(file_error)
}

fn fill(stream: &OutputStream, bytes: &[u8]) -> Result<()> {
    for chunk in bytes.chunks(CHUNK) {
        stream.blocking_write_and_flush(chunk).map_err(stream_error)?;
    }
    Ok(())
}

fn drain(stream: &InputStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(CHUNK as u64) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(error) => return Err(stream_error(error)),
        }
    }
}

fn stream_error(error: StreamError) -> Error {
    match error {
        StreamError::Closed => ErrorKind::BrokenPipe.into(),
        StreamError::LastOperationFailed(error) => Error::other(error.to_debug_string()),
    }
}

fn file_error(code: ErrorCode) -> Error {
    let kind = match code {
        ErrorCode::NoEntry => ErrorKind::NotFound,
        ErrorCode::Exist => ErrorKind::AlreadyExists,
        ErrorCode::Access | ErrorCode::NotPermitted | ErrorCode::ReadOnly => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    };
    Error::new(kind, code.name())
}
