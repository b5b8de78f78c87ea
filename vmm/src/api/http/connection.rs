//! What a client has sent and nobody has answered yet.
//!
//! ```text
//!   feed ──► bytes ──next──► More        the request is not complete
//!                    ├─────► Continue    the client waits for leave to send the body
//!                    ├─────► Request
//!                    └─────► Failed      no request: answer and close
//! ```

use super::request::{Head, HttpError, MAX_BODY, MAX_HEAD, Request, parse_head};

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for more bytes.
    More,
    /// Answer `100 Continue`, then ask again.
    Continue,
    /// Answer this request, then ask again.
    Request(Request),
    /// Say what was wrong and close the connection.
    Failed(HttpError),
}

/// One client's bytes.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    input: Vec<u8>,
    head: Option<Head>,
}

impl Connection {
    /// Takes what the client sent.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// How many more bytes may be fed before [`Self::next`] is asked; never 0 after it has answered [`Step::More`].
    pub(crate) fn room(&self) -> usize {
        (MAX_HEAD + MAX_BODY).saturating_sub(self.input.len())
    }

    /// Whether a request has begun and is not complete.
    pub(crate) fn is_amid(&self) -> bool {
        !self.input.is_empty() || self.head.is_some()
    }

    /// What to do with what there is.
    pub(crate) fn next(&mut self) -> Step {
        if self.head.is_none() {
            match parse_head(&self.input) {
                Err(error) => return Step::Failed(error),
                Ok(None) => return Step::More,
                Ok(Some(head)) => {
                    self.input.drain(..head.len);
                    self.head = Some(head);
                }
            }
        }
        let Some(mut head) = self.head.take() else { return Step::More };
        if self.input.len() < head.body_len {
            let asks = std::mem::take(&mut head.asks);
            self.head = Some(head);
            return if asks { Step::Continue } else { Step::More };
        }
        let rest = self.input.split_off(head.body_len);
        let body = std::mem::replace(&mut self.input, rest);
        Step::Request(Request { method: head.method, path: head.path, body, closes: head.closes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::http::Method;

    const TWO: &str =
        "PUT /vm HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";

    fn requests(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<(Method, String, Vec<u8>)> {
        let mut connection = Connection::default();
        let mut requests = Vec::new();
        for piece in pieces {
            connection.feed(&piece);
            loop {
                match connection.next() {
                    Step::More => break,
                    Step::Continue => {}
                    Step::Request(request) => requests.push((request.method, request.path, request.body)),
                    Step::Failed(error) => panic!("{error}"),
                }
            }
        }
        assert!(!connection.is_amid());
        requests
    }

    #[test]
    fn requests_may_come_in_any_pieces() {
        let wanted =
            [(Method::Put, "/vm".to_owned(), b"abc".to_vec()), (Method::Get, "/".to_owned(), Vec::new())];
        for size in 1..=TWO.len() {
            let pieces = TWO.as_bytes().chunks(size).map(<[u8]>::to_vec);
            assert_eq!(requests(pieces), wanted, "pieces of {size}");
        }
    }

    #[test]
    fn leave_to_send_the_body_is_given_once() {
        let mut connection = Connection::default();
        connection.feed(b"PUT /vm HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(connection.next(), Step::Continue);
        assert_eq!(connection.next(), Step::More);
        assert!(connection.is_amid());
        connection.feed(b"x");
        assert!(matches!(connection.next(), Step::Request(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_waited_for(pieces: Vec<Vec<u8>>) {
            let mut connection = Connection::default();
            for piece in pieces {
                connection.feed(&piece);
                for _ in 0..100 {
                    if !matches!(connection.next(), Step::Request(_) | Step::Continue) {
                        break;
                    }
                }
                prop_assert!(connection.room() <= MAX_HEAD + MAX_BODY);
            }
        }

        #[test]
        fn a_head_in_which_bytes_have_changed_is_no_panic(at in 0..TWO.len(), byte: u8) {
            let mut bytes = TWO.as_bytes().to_vec();
            bytes[at] = byte;
            let mut connection = Connection::default();
            connection.feed(&bytes);
            for _ in 0..10 {
                connection.next();
            }
        }
    }
}
