//! A client of the API: one request, one answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// How long an answer may take: a snapshot of much memory takes its time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often to look whether a machine has gone.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// Longest answer that is taken, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Why there is no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("cannot reach the machine at {path}: {source}; start one by `carve vm serve` or with --api-sock")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the machine at {path} does not answer: {source}")]
    Lost {
        /// The socket.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The machine refused.
    #[error("{0}")]
    Refused(String),
    /// Not an answer of the API.
    #[error("what listens at {0} is not the control socket of a machine")]
    Nonsense(PathBuf),
}

/// The control socket of a machine.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The one at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// There is no answer, or it is a refusal.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.request("GET", path, None)
    }

    /// Makes or does something.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, ClientError> {
        self.request("PUT", path, Some(self.json(body)?))
    }

    /// Changes something.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub fn patch(&self, path: &str, body: &impl Serialize) -> Result<Value, ClientError> {
        self.request("PATCH", path, Some(self.json(body)?))
    }

    /// Waits until nobody serves the socket any more, for as long as `patience`; whether that is so.
    pub fn wait_until_gone(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while UnixStream::connect(&self.path).is_ok() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        true
    }

    fn json(&self, body: &impl Serialize) -> Result<String, ClientError> {
        serde_json::to_string(body).map_err(|error| self.lost(error.into()))
    }

    fn request(&self, method: &str, path: &str, body: Option<String>) -> Result<Value, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let mut stream =
            connect().map_err(|source| ClientError::Connect { path: self.path.clone(), source })?;
        let body = body.unwrap_or_default();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if !body.is_empty() {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += &body;
        stream.write_all(text.as_bytes()).map_err(|error| self.lost(error))?;
        let mut answer = Vec::new();
        // The server closes the connection after its answer.
        stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(|error| self.lost(error))?;
        self.understand(&answer)
    }

    fn understand(&self, answer: &[u8]) -> Result<Value, ClientError> {
        let nonsense = || ClientError::Nonsense(self.path.clone());
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(len)) = head.parse(answer) else { return Err(nonsense()) };
        let code = head.code.unwrap_or(0);
        let body = &answer[len..];
        let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
        let value: Value = value.map_err(|_| nonsense())?;
        if (200..300).contains(&code) {
            return Ok(value);
        }
        let message = value.get("fault_message").and_then(Value::as_str).ok_or_else(nonsense)?;
        Err(ClientError::Refused(message.to_owned()))
    }

    fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Lost { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks a server that gives `answer` whatever it is asked.
    fn ask(answer: &'static str) -> Result<Value, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1000]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let answer = Client::new(&path).get("/").map_err(|error| error.to_string());
        server.join().unwrap();
        answer
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        assert_eq!(ask("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Value::Null));
        assert_eq!(ask("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7"), Ok(7.into()));
        let refused = ask("HTTP/1.1 400 Bad Request\r\n\r\n{\"fault_message\":\"no\"}");
        assert_eq!(refused, Err("no".to_owned()));
        for nonsense in ["", "SSH-2.0", "HTTP/1.1 200 OK\r\n\r\n{", "HTTP/1.1 500 ?\r\n\r\n"] {
            let error = ask(nonsense).unwrap_err();
            assert!(error.contains("is not the control socket"), "{nonsense:?}: {error}");
        }
    }

    #[test]
    fn a_socket_without_a_machine_is_named() {
        let error = Client::new(Path::new("/nowhere")).get("/").unwrap_err().to_string();
        assert!(error.contains("/nowhere") && error.contains("carve vm serve"), "{error}");
    }
}
