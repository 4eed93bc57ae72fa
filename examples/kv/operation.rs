//! What the replicated log holds: the operations that change the data, as bytes.
//!
//! ```text
//! version: u8 = 1 | operation: u8 | fields
//! 1 set        condition: u8 (0 always, 1 if absent, 2 if present, 3 if equal) | key | value | expected, if 3
//! 2 delete     count: u32 | key ...
//! 3 increment  key
//! key, value, expected: length: u32 | bytes        numbers little endian; a key has at most 65534 bytes
//! ```
//!
//! Every node must do the same with the same bytes, so bytes that this version cannot read are an outcome too: the same
//! error everywhere, and no change.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The encoding that this version writes, and the only one it reads.
const VERSION: u8 = 1;

/// The longest key, in bytes: what every store can hold. Part of the format, so that no node's own limit decides.
pub(crate) const MAX_KEY_BYTES: usize = 65_534;

/// A change to the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Gives `key` the value `value`, if the condition holds.
    Set { key: Bytes, value: Bytes, condition: Condition },
    /// Removes keys; answers how many there were.
    Delete { keys: Vec<Bytes> },
    /// Adds one to the integer at `key`, which starts from 0.
    Increment { key: Bytes },
}

/// When a value is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    IfAbsent,
    IfPresent,
    IfEqual(Bytes),
}

/// Bytes that are no operation, or one of a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no operation that version {VERSION} of the encoding knows")]
pub(crate) struct UnknownOperation;

impl Operation {
    /// The bytes for the log.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_u8(VERSION);
        match self {
            Self::Set { key, value, condition } => {
                out.put_u8(1);
                out.put_u8(match condition {
                    Condition::Always => 0,
                    Condition::IfAbsent => 1,
                    Condition::IfPresent => 2,
                    Condition::IfEqual(_) => 3,
                });
                put(&mut out, key);
                put(&mut out, value);
                if let Condition::IfEqual(expected) = condition {
                    put(&mut out, expected);
                }
            }
            Self::Delete { keys } => {
                out.put_u8(2);
                out.put_u32_le(length(keys.len()));
                keys.iter().for_each(|key| put(&mut out, key));
            }
            Self::Increment { key } => {
                out.put_u8(3);
                put(&mut out, key);
            }
        }
        out.freeze()
    }

    /// How many bytes [`encode`](Self::encode) makes.
    pub(crate) fn encoded_len(&self) -> usize {
        let field = |bytes: &Bytes| 4 + bytes.len();
        2 + match self {
            Self::Set { key, value, condition } => {
                let expected = if let Condition::IfEqual(expected) = condition { field(expected) } else { 0 };
                1 + field(key) + field(value) + expected
            }
            Self::Delete { keys } => 4 + keys.iter().map(field).sum::<usize>(),
            Self::Increment { key } => field(key),
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; the fields share `bytes`.
    ///
    /// # Errors
    /// [`UnknownOperation`] for everything else, down to a single byte too many.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, UnknownOperation> {
        if byte(&mut bytes)? != VERSION {
            return Err(UnknownOperation);
        }
        let operation = match byte(&mut bytes)? {
            1 => {
                let condition = byte(&mut bytes)?;
                let (key, value) = (key(&mut bytes)?, field(&mut bytes)?);
                let condition = match condition {
                    0 => Condition::Always,
                    1 => Condition::IfAbsent,
                    2 => Condition::IfPresent,
                    3 => Condition::IfEqual(field(&mut bytes)?),
                    _ => return Err(UnknownOperation),
                };
                Self::Set { key, value, condition }
            }
            2 => {
                let count = bytes.try_get_u32_le().map_err(|_| UnknownOperation)?;
                // Grows with the keys that are really there, not with the count that is announced.
                let keys = (0..count).map(|_| key(&mut bytes)).collect::<Result<_, _>>()?;
                Self::Delete { keys }
            }
            3 => Self::Increment { key: key(&mut bytes)? },
            _ => return Err(UnknownOperation),
        };
        if bytes.is_empty() { Ok(operation) } else { Err(UnknownOperation) }
    }
}

fn put(out: &mut BytesMut, field: &Bytes) {
    out.put_u32_le(length(field.len()));
    out.put_slice(field);
}

/// Requests are limited far below 4 GiB.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn byte(bytes: &mut Bytes) -> Result<u8, UnknownOperation> {
    bytes.try_get_u8().map_err(|_| UnknownOperation)
}

fn key(bytes: &mut Bytes) -> Result<Bytes, UnknownOperation> {
    field(bytes).and_then(|key| if key.len() > MAX_KEY_BYTES { Err(UnknownOperation) } else { Ok(key) })
}

fn field(bytes: &mut Bytes) -> Result<Bytes, UnknownOperation> {
    let length = bytes.try_get_u32_le().map_err(|_| UnknownOperation)?;
    let length = usize::try_from(length).map_err(|_| UnknownOperation)?;
    if length > bytes.len() { Err(UnknownOperation) } else { Ok(bytes.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(choice: u8, key: Vec<u8>, value: Vec<u8>) -> Operation {
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        let condition = match choice % 6 {
            0 => Condition::Always,
            1 => Condition::IfAbsent,
            2 => Condition::IfPresent,
            3 => Condition::IfEqual(key.clone()),
            4 => return Operation::Delete { keys: vec![key, value] },
            _ => return Operation::Increment { key },
        };
        Operation::Set { key, value, condition }
    }

    quickcheck::quickcheck! {
        fn operations_are_read_back(choice: u8, key: Vec<u8>, value: Vec<u8>) -> bool {
            let operation = operation(choice, key, value);
            let bytes = operation.encode();
            bytes.len() == operation.encoded_len() && Operation::decode(bytes) == Ok(operation)
        }

        fn any_shortened_or_lengthened_operation_is_refused(choice: u8, key: Vec<u8>, value: Vec<u8>) -> bool {
            let bytes = operation(choice, key, value).encode();
            let longer = Bytes::from([&bytes[..], b"x"].concat());
            let refused = |bytes: Bytes| Operation::decode(bytes) == Err(UnknownOperation);
            refused(longer) && (0..bytes.len()).all(|length| refused(bytes.slice(..length)))
        }

        fn noise_never_panics(noise: Vec<u8>) -> bool {
            let _ = Operation::decode(Bytes::from([&[1], &noise[..]].concat()));
            true
        }
    }

    #[test]
    fn keys_have_a_longest_length() {
        let increment = |length| Operation::Increment { key: vec![b'k'; length].into() };
        assert!(Operation::decode(increment(MAX_KEY_BYTES).encode()).is_ok());
        assert_eq!(Operation::decode(increment(MAX_KEY_BYTES + 1).encode()), Err(UnknownOperation));
    }

    #[test]
    fn a_count_takes_no_memory_by_itself() {
        let announced = [&[VERSION, 2][..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(Operation::decode(Bytes::from(announced)), Err(UnknownOperation));
    }
}
