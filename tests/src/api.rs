//! A client of a machine's control socket.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::wait_for;

/// The control socket of a machine.
#[derive(Debug, Clone)]
pub struct Api(PathBuf);

impl Api {
    /// The one at `socket`, once somebody serves it.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        wait_for("the control socket", || UnixStream::connect(socket).ok());
        Self(socket.to_owned())
    }

    /// The status and the body that answer a request; `Null` is no body.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.0).expect("the API listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it is open");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("the API reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The body that answers a request, which must succeed.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The complaint that answers a request, which must be refused.
    #[must_use]
    pub fn refused(&self, method: &str, path: &str, body: &Value) -> String {
        let (status, answer) = self.ask(method, path, body);
        assert_eq!(status, 400, "{method} {path}: {answer}");
        answer["fault_message"].as_str().expect("a complaint").to_owned()
    }
}
