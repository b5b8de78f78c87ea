//! A request, and how it is read from bytes.

use std::fmt;

/// Longest request line with headers, in bytes.
pub(crate) const MAX_HEAD: usize = 8 << 10;
/// Longest body, in bytes; Firecracker's limit (`--http-api-max-payload-size`).
pub(crate) const MAX_BODY: usize = 51_200;
/// Most headers.
const MAX_HEADERS: usize = 64;

/// The methods of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    /// Asks for something.
    Get,
    /// Makes or replaces something.
    Put,
    /// Changes a part of something.
    Patch,
}

impl Method {
    /// As it is written in a request.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Get, Self::Put, Self::Patch].into_iter().find(|method| method.name() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// What is to be done.
    pub(crate) method: Method,
    /// With what, as an absolute path.
    pub(crate) path: String,
    /// The rest of it; empty if there is none.
    pub(crate) body: Vec<u8>,
    /// The client says that it sends no other.
    pub(crate) closes: bool,
}

/// Bytes that are no request of ours. The connection ends with it, as nobody knows where the next request begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// Not HTTP.
    #[error("this is no HTTP/1.1 request: {0}")]
    Malformed(httparse::Error),
    /// The request line and headers are too long.
    #[error("the request line and its headers are longer than {MAX_HEAD} bytes")]
    Head,
    /// The body is too long.
    #[error("the body has {0} bytes; at most {MAX_BODY} are taken")]
    Body(u64),
    /// Not one of ours.
    #[error("the method {0:?} is not understood; use GET, PUT or PATCH")]
    Method(String),
    /// The length of the body.
    #[error("Content-Length is {0:?}; give one number of bytes")]
    Length(String),
    /// A body in pieces.
    #[error("Transfer-Encoding is not understood; send the body with a Content-Length")]
    Encoding,
    /// The address of the request.
    #[error("the request names {0:?}; write a path that begins with /, or http://localhost/…")]
    Path(String),
}

/// The start of a request: all but its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) closes: bool,
    /// The client waits for leave to send the body.
    pub(super) asks: bool,
    pub(super) body_len: usize,
    /// Bytes up to the body.
    pub(super) len: usize,
}

/// Reads the start of a request; `None` if it is not there yet.
///
/// # Errors
/// It is none, or not one that can be answered.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let seen = bytes.get(..MAX_HEAD).unwrap_or(bytes);
    let httparse::Status::Complete(len) = parsed.parse(seen).map_err(HttpError::Malformed)? else {
        return if seen.len() < MAX_HEAD { Ok(None) } else { Err(HttpError::Head) };
    };
    let name = parsed.method.unwrap_or_default();
    let method = Method::parse(name).ok_or_else(|| HttpError::Method(name.to_owned()))?;
    let path = path_of(parsed.path.unwrap_or_default())?;
    let mut head = Head { method, path, closes: parsed.version == Some(0), asks: false, body_len: 0, len };
    let mut length = None;
    for header in parsed.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let bytes = decimal(&value).ok_or_else(|| HttpError::Length(value.clone()))?;
            if length.replace(bytes).is_some_and(|before| before != bytes) {
                return Err(HttpError::Length(value));
            }
        } else if is("transfer-encoding") {
            return Err(HttpError::Encoding);
        } else if is("connection") {
            head.closes |= value.eq_ignore_ascii_case("close");
        } else if is("expect") {
            head.asks |= value.eq_ignore_ascii_case("100-continue");
        }
    }
    let length = length.unwrap_or(0);
    head.body_len =
        usize::try_from(length).ok().filter(|len| *len <= MAX_BODY).ok_or(HttpError::Body(length))?;
    Ok(Some(head))
}

/// Digits only: `parse` would take a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The path of `/path` and of `http://host/path`, without what comes after a question mark.
fn path_of(target: &str) -> Result<String, HttpError> {
    let bad = || HttpError::Path(target.to_owned());
    let path = match target.strip_prefix("http://") {
        None => target,
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path.starts_with('/') { Ok(path.to_owned()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, HttpError> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn what_curl_sends_is_understood() {
        let text = "PUT /boot-source HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\n\
            Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\
            Expect: 100-continue\r\n\r\n{}";
        let head = head(text).unwrap().unwrap();
        assert_eq!((head.method, head.path.as_str()), (Method::Put, "/boot-source"));
        assert_eq!((head.body_len, head.len), (12, text.len() - 2));
        assert!(head.asks && !head.closes);
    }

    #[test]
    fn a_request_may_name_a_host_and_a_query() {
        for (target, path) in
            [("http://localhost/vm?x=1", "/vm"), ("http://localhost", "/"), ("/", "/"), ("/vm#top", "/vm")]
        {
            let text = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_eq!(head(&text).unwrap().unwrap().path, path, "{target}");
        }
    }

    #[test]
    fn the_client_may_ask_for_the_end_of_the_connection() {
        for text in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"] {
            assert!(head(text).unwrap().unwrap().closes, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        for (text, wanted) in [
            ("DELETE / HTTP/1.1\r\n\r\n", "\"DELETE\" is not understood"),
            ("GET vm HTTP/1.1\r\n\r\n", "\"vm\""),
            ("PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "Content-Length is \"-1\""),
            ("PUT / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "Content-Length is \"+1\""),
            ("PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length is \"2\""),
            ("PUT / HTTP/1.1\r\nContent-Length: 51201\r\n\r\n", "at most 51200"),
            ("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length"),
            ("\u{16}\u{3}\u{1}", "no HTTP"),
            (&long, "longer than 8192"),
        ] {
            let error = head(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }

    #[test]
    fn half_a_head_is_no_error() {
        assert_eq!(head("GET /vm HT"), Ok(None));
        assert_eq!(head(""), Ok(None));
    }
}
