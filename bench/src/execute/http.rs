//! As much of HTTP/1 (RFC 9112) as a probe needs: the request, and when a reply is whole.

/// The longest reply that is read, in bytes.
pub(super) const LONGEST: usize = 4 << 20;
/// The longest head of a reply, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// What the bytes received so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// More must come.
    Partial,
    /// A whole 200 with this body.
    Correct(Vec<u8>),
    /// A reply that is not 200, or no HTTP at all.
    Wrong,
}

/// The request for `path`. HTTP/1.0, so that the reply is not chunked and ends with the connection.
pub(super) fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: carve-bench\r\nConnection: close\r\n\r\n")
}

/// Reads a reply. `closed` says that no more bytes will come.
pub(super) fn parse(bytes: &[u8], closed: bool) -> Reply {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if closed || bytes.len() > LONGEST_HEAD { Reply::Wrong } else { Reply::Partial };
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]);
    let body = &bytes[head_end + 4..];
    let mut lines = head.split("\r\n");
    let mut status = lines.next().unwrap_or_default().split(' ');
    if !status.next().is_some_and(|version| version.starts_with("HTTP/1.")) || status.next() != Some("200") {
        return Reply::Wrong;
    }
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse::<usize>());
    match length {
        Some(Err(_)) => Reply::Wrong,
        Some(Ok(length)) if length > LONGEST => Reply::Wrong,
        Some(Ok(length)) if body.len() >= length => Reply::Correct(body[..length].to_vec()),
        Some(Ok(_)) if closed => Reply::Wrong,
        None if closed => Reply::Correct(body.to_vec()),
        Some(Ok(_)) | None => Reply::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_correct_when_it_is_whole_and_200() {
        let correct = |body: &str| Reply::Correct(body.as_bytes().to_vec());
        for (bytes, closed, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, correct("abc")),
            ("HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nab", false, Reply::Partial),
            ("HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nab", true, Reply::Wrong),
            ("HTTP/1.0 200 OK\r\n\r\nab", false, Reply::Partial),
            ("HTTP/1.0 200 OK\r\n\r\nab", true, correct("ab")),
            ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", false, Reply::Wrong),
            ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", false, Reply::Wrong),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", false, Reply::Wrong),
            ("HTTP/1.1 200", false, Reply::Partial),
            ("HTTP/1.1 200", true, Reply::Wrong),
            ("SSH-2.0-OpenSSH\r\n\r\n", false, Reply::Wrong),
            ("", true, Reply::Wrong),
        ] {
            assert_eq!(parse(bytes.as_bytes(), closed), expected, "{bytes:?} {closed}");
        }
    }

    proptest::proptest! {
        #[test]
        fn takes_any_bytes(bytes: Vec<u8>, closed: bool) {
            parse(&bytes, closed);
        }
    }
}
