//! ReadIndex and its answer.

use super::Envelope;
use crate::message::{ReadIndex, ReadIndexResponse};
use crate::types::{Index, RoundId, Term};

control! {
    /// The question of a follower on behalf of its readers.
    ReadIndexControl {
        #[prost(uint64, tag = "5")]
        round: u64,
        /// Missing means no: asking a quorum is always right.
        #[prost(bool, tag = "6")]
        lease: bool,
    }
}

control! {
    /// The answer to it.
    ReadIndexResponseControl {
        #[prost(uint64, tag = "5")]
        round: u64,
        #[prost(uint64, tag = "6")]
        request_term: u64,
        /// Missing means refused.
        #[prost(uint64, optional, tag = "7")]
        index: Option<u64>,
    }
}

impl ReadIndexControl {
    pub(in crate::wire) fn new(envelope: Envelope, request: &ReadIndex) -> Self {
        let Envelope { group, from, to, term } = envelope;
        Self { group, from, to, term, round: request.round.0, lease: request.lease }
    }

    pub(in crate::wire) fn read(&self) -> ReadIndex {
        ReadIndex { round: RoundId(self.round), lease: self.lease }
    }
}

impl ReadIndexResponseControl {
    pub(in crate::wire) fn new(envelope: Envelope, response: &ReadIndexResponse) -> Self {
        let Envelope { group, from, to, term } = envelope;
        Self {
            group,
            from,
            to,
            term,
            round: response.round.0,
            request_term: response.request_term.0,
            index: response.index.map(|index| index.0),
        }
    }

    pub(in crate::wire) fn read(&self) -> ReadIndexResponse {
        ReadIndexResponse {
            round: RoundId(self.round),
            request_term: Term(self.request_term),
            index: self.index.map(Index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LARGEST, fits};
    use super::*;

    const MAX: u64 = u64::MAX;

    /// Every field at its largest at once: new fields must be added here, or it does not compile.
    #[test]
    fn the_largest_fit_what_is_set_aside_for_them() {
        let Envelope { group, from, to, term } = LARGEST;
        fits(&ReadIndexControl { group, from, to, term, round: MAX, lease: true });
        fits(&ReadIndexResponseControl { group, from, to, term, round: MAX, request_term: MAX, index: Some(MAX) });
    }
}
