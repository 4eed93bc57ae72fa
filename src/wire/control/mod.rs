//! The control parts of messages: protobuf structs and their way from and to the core's types.
//!
//! Field numbers are a promise: a number is never given another meaning, new fields get new numbers, and every field
//! may be missing (older writers) and then is 0. Fields 1 to 4 are the envelope and the same in every message.

use crate::message::{Body, Message};
use crate::types::{GroupId, NodeId, Term};

/// More than any control part has: at most some eighteen numbers of at most twelve bytes.
pub(super) const CONTROL_BYTES_MAX: usize = 256;

/// What a control part turns out to be.
pub(super) enum Understood<T> {
    /// This.
    Known(T),
    /// Something that a newer version says.
    Unknown,
}

/// Group, sender, receiver and term of a message.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    group: u64,
    from: u64,
    to: u64,
    term: u64,
}

impl Envelope {
    pub(super) fn of(message: &Message) -> Self {
        Self { group: message.group.0, from: message.from.0, to: message.to.0, term: message.term.0 }
    }

    pub(super) fn open(self, body: Body) -> Message {
        Message {
            group: GroupId(self.group),
            from: NodeId(self.from),
            to: NodeId(self.to),
            term: Term(self.term),
            body,
        }
    }
}

/// Defines a control struct that begins with the envelope.
macro_rules! control {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(in crate::wire) struct $name {
            #[prost(uint64, tag = "1")]
            group: u64,
            #[prost(uint64, tag = "2")]
            from: u64,
            #[prost(uint64, tag = "3")]
            to: u64,
            #[prost(uint64, tag = "4")]
            term: u64,
            $($(#[$field_doc])* $field: $type,)*
        }

        impl $name {
            pub(in crate::wire) fn envelope(&self) -> Envelope {
                Envelope { group: self.group, from: self.from, to: self.to, term: self.term }
            }
        }
    };
}

// Below the macro that they use.
mod append;
mod read;
mod vote;

pub(super) use append::{AppendEntriesControl, AppendResponseControl};
pub(super) use read::{ReadIndexControl, ReadIndexResponseControl};
pub(super) use vote::{AbdicateControl, VoteRequestControl, VoteResponseControl};

#[cfg(test)]
mod tests {
    use super::*;

    /// An envelope of the largest numbers, for the tests of what a control part can need.
    pub(super) const LARGEST: Envelope = Envelope { group: u64::MAX, from: u64::MAX, to: u64::MAX, term: u64::MAX };

    #[track_caller]
    pub(super) fn fits(control: &impl prost::Message) {
        let bytes = control.encoded_len();
        assert!(bytes <= CONTROL_BYTES_MAX, "{bytes} bytes are more than CONTROL_BYTES_MAX");
    }
}
