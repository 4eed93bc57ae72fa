//! Replies, in the two dialects that clients speak.

use bytes::Bytes;

/// The version of the protocol that a connection has agreed on with `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    /// What every client starts with.
    #[default]
    Resp2,
    /// Adds maps and a null of its own, as far as these replies need them.
    Resp3,
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(&'static str),
    /// The first word tells its class.
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub(crate) const OK: Self = Self::Status("OK");

    pub(crate) fn bulk(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    /// Appends this reply to `out`.
    pub(crate) fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Self::Status(text) => line(out, b'+', text.as_bytes()),
            Self::Error(text) => error_line(out, text),
            Self::Integer(number) => integer_line(out, b':', *number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Null => out.extend_from_slice(if protocol == Protocol::Resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Self::Array(items) => {
                length_line(out, b'*', items.len());
                items.iter().for_each(|item| item.encode(protocol, out));
            }
            Self::Map(pairs) => {
                match protocol {
                    Protocol::Resp3 => length_line(out, b'%', pairs.len()),
                    Protocol::Resp2 => length_line(out, b'*', pairs.len() * 2),
                }
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
        }
    }
}

/// Appends one bulk string.
pub(crate) fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    length_line(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn length_line(out: &mut Vec<u8>, kind: u8, length: usize) {
    integer_line(out, kind, i64::try_from(length).unwrap_or(i64::MAX));
}

fn integer_line(out: &mut Vec<u8>, kind: u8, number: i64) {
    use std::io::Write as _;
    out.push(kind);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}\r\n");
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// An error ends at its first line end, so a text that quotes the client must not bring one along.
fn error_line(out: &mut Vec<u8>, text: &str) {
    let clean: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    line(out, b'-', clean.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut out = Vec::new();
        reply.encode(protocol, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn resp3_differs_in_maps_and_nulls() {
        let reply = Reply::Map(vec![(Reply::bulk("k"), Reply::Null)]);
        assert_eq!(encoded(&reply, Protocol::Resp2), "*2\r\n$1\r\nk\r\n$-1\r\n");
        assert_eq!(encoded(&reply, Protocol::Resp3), "%1\r\n$1\r\nk\r\n_\r\n");
    }

    #[test]
    fn an_error_stays_on_its_line() {
        assert_eq!(encoded(&Reply::error("ERR 'a\r\n+OK'"), Protocol::Resp2), "-ERR 'a  +OK'\r\n");
    }

    #[test]
    fn numbers_and_arrays() {
        let reply = Reply::Array(vec![Reply::Integer(i64::MIN), Reply::OK]);
        assert_eq!(encoded(&reply, Protocol::Resp2), "*2\r\n:-9223372036854775808\r\n+OK\r\n");
    }
}
