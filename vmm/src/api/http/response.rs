//! A response, and its bytes.

use serde::Serialize;
use serde_json::json;

/// Leave to send the body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The codes of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// 200, with a body.
    Ok,
    /// 204: done, nothing to say.
    NoContent,
    /// 400, with the reason.
    BadRequest,
    /// 413: more than is taken.
    TooLarge,
    /// 503: too many clients.
    Unavailable,
}

impl Status {
    /// The number.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NoContent => 204,
            Self::BadRequest => 400,
            Self::TooLarge => 413,
            Self::Unavailable => 503,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoContent => "No Content",
            Self::BadRequest => "Bad Request",
            Self::TooLarge => "Payload Too Large",
            Self::Unavailable => "Service Unavailable",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// How it went.
    pub(crate) status: Status,
    /// JSON; empty if there is none.
    pub(crate) body: String,
}

impl Response {
    /// 204.
    pub(crate) fn done() -> Self {
        Self { status: Status::NoContent, body: String::new() }
    }

    /// 200 with `value`.
    pub(crate) fn value(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(body) => Self { status: Status::Ok, body },
            Err(error) => Self::fault(Status::BadRequest, &error.to_string()),
        }
    }

    /// An error, in the form that Firecracker gives it.
    pub(crate) fn fault(status: Status, message: &str) -> Self {
        Self { status, body: json!({ "fault_message": message }).to_string() }
    }

    /// The response as it is sent; `closes` tells the client that no other follows.
    pub(crate) fn to_bytes(&self, closes: bool) -> Vec<u8> {
        let Self { status, body } = self;
        let connection = if closes { "close" } else { "keep-alive" };
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nServer: carve\r\nConnection: {connection}\r\n",
            status.code(),
            status.reason()
        );
        // A 204 has neither (RFC 9110, section 8.6).
        if *status != Status::NoContent {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body;
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn text(response: &Response, closes: bool) -> String {
        String::from_utf8(response.to_bytes(closes)).unwrap().replace('\r', "")
    }

    #[test]
    fn a_fault_has_its_message_in_json() {
        expect![[r#"
            HTTP/1.1 400 Bad Request
            Server: carve
            Connection: close
            Content-Type: application/json
            Content-Length: 34

            {"fault_message":"say \"please\""}"#]]
        .assert_eq(&text(&Response::fault(Status::BadRequest, "say \"please\""), true));
    }

    #[test]
    fn what_is_done_has_no_body() {
        expect![[r#"
            HTTP/1.1 204 No Content
            Server: carve
            Connection: keep-alive

        "#]]
        .assert_eq(&text(&Response::done(), false));
    }
}
