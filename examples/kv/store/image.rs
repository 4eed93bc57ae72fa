//! The whole state as one stream of bytes: what goes into a snapshot, the same for every kind of store, so that a node may
//! restore what a node with another kind has made.
//!
//! ```text
//! version: u8 = 1 | applied: u64 | keys: u64 | digest: u64 | pair ...
//! pair: key length: u32 | value length: u32 | key | value       numbers little endian; pairs in any order
//! ```

use std::io::{self, BufReader, Read};

use bytes::{Buf as _, BufMut as _, Bytes};
use tenure::types::Index;

use super::super::operation::MAX_KEY_BYTES;
use super::{StoreError, Totals};

const VERSION: u8 = 1;

/// Bytes of the version and the totals.
const HEAD_BYTES: usize = 25;

/// How much is made ready at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A pair, or why there is none to be had.
pub(super) type Pair = Result<(Bytes, Bytes), StoreError>;

/// The bytes of an image.
pub(super) struct Image<I> {
    pairs: I,
    ready: Vec<u8>,
    /// Invariant: `ready[..read]` has been read.
    read: usize,
}

impl<I: Iterator<Item = Pair>> Image<I> {
    /// An image of `pairs`, whose totals these are.
    pub(super) fn new(totals: Totals, pairs: I) -> Self {
        let mut ready = Vec::with_capacity(CHUNK_BYTES);
        ready.put_u8(VERSION);
        ready.put_u64_le(totals.applied.0);
        ready.put_u64_le(totals.keys);
        ready.put_u64_le(totals.digest);
        Self { pairs, ready, read: 0 }
    }

    fn make_ready(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.read = 0;
        while self.ready.len() < CHUNK_BYTES {
            let Some(pair) = self.pairs.next() else { return Ok(()) };
            let (key, value) = pair.map_err(io::Error::other)?;
            self.ready.put_u32_le(u32::try_from(key.len()).map_err(io::Error::other)?);
            self.ready.put_u32_le(u32::try_from(value.len()).map_err(io::Error::other)?);
            self.ready.extend_from_slice(&key);
            self.ready.extend_from_slice(&value);
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Pair>> Read for Image<I> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.ready.len() {
            self.make_ready()?;
        }
        let count = (&self.ready[self.read..]).read(out)?;
        self.read += count;
        Ok(count)
    }
}

/// Reads an image and hands over its pairs. Returns its totals, which are those of the pairs: what is not exactly an image
/// is an error, if only after the last pair.
pub(super) fn load(
    image: &mut dyn Read,
    mut put: impl FnMut(Bytes, Bytes) -> Result<(), StoreError>,
) -> Result<Totals, StoreError> {
    let mut image = BufReader::with_capacity(CHUNK_BYTES, image);
    let mut head = [0; HEAD_BYTES];
    image.read_exact(&mut head).map_err(unreadable)?;
    let mut head = &head[..];
    if head.get_u8() != VERSION {
        return Err(malformed("it has another version: was it made by a later one?"));
    }
    let totals = Totals { applied: Index(head.get_u64_le()), keys: head.get_u64_le(), digest: head.get_u64_le() };
    let mut found = Totals { applied: totals.applied, ..Totals::default() };
    while found.keys < totals.keys {
        let mut lengths = [0; 8];
        image.read_exact(&mut lengths).map_err(unreadable)?;
        let mut lengths = &lengths[..];
        let (key, value) = (lengths.get_u32_le(), lengths.get_u32_le());
        if key as usize > MAX_KEY_BYTES {
            return Err(malformed("a key is too long"));
        }
        let (key, value) = (field(&mut image, key)?, field(&mut image, value)?);
        found.add(&key, &value);
        put(key, value)?;
    }
    let at_end = image.read(&mut [0]).map_err(unreadable)? == 0;
    if at_end && found == totals { Ok(totals) } else { Err(malformed("its pairs are not those that were put in")) }
}

/// Grows with what is really there, not with the length that is announced.
fn field(image: &mut impl Read, length: u32) -> Result<Bytes, StoreError> {
    let mut field = Vec::new();
    image.take(length.into()).read_to_end(&mut field).map_err(unreadable)?;
    if field.len() as u64 == u64::from(length) { Ok(field.into()) } else { Err(malformed("it ends in a pair")) }
}

fn unreadable(error: io::Error) -> StoreError {
    StoreError::Image(error.to_string())
}

fn malformed(how: &str) -> StoreError {
    StoreError::Image(how.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use std::collections::BTreeMap;

    fn image(pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> (Totals, Vec<u8>) {
        let mut totals = Totals { applied: Index(7), ..Totals::default() };
        pairs.iter().for_each(|(key, value)| totals.add(key, value));
        let pairs = pairs.iter().map(|(key, value)| Ok((key.clone().into(), value.clone().into())));
        let mut bytes = Vec::new();
        Image::new(totals, pairs).read_to_end(&mut bytes).unwrap();
        (totals, bytes)
    }

    type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

    fn loaded(bytes: &[u8]) -> Result<(Totals, Pairs), StoreError> {
        let mut pairs = BTreeMap::new();
        let put = |key: Bytes, value: Bytes| {
            pairs.insert(key.to_vec(), value.to_vec());
            Ok(())
        };
        let totals = load(&mut &bytes[..], put)?;
        Ok((totals, pairs))
    }

    quickcheck! {
        fn images_are_read_back(pairs: BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
            let (totals, bytes) = image(&pairs);
            loaded(&bytes) == Ok((totals, pairs))
        }

        fn any_other_bytes_are_refused(pairs: BTreeMap<Vec<u8>, Vec<u8>>, at: usize, bit: u8) -> bool {
            let (_, bytes) = image(&pairs);
            let mut flipped = bytes.clone();
            // Not in the index: nothing here tells one from another.
            let at = (9 + at % (bytes.len() - 8)) % bytes.len();
            flipped[at] ^= 1 << (bit % 8);
            let shorter = loaded(&bytes[..bytes.len() - 1]).is_err();
            shorter && loaded(&[&bytes[..], b"x"].concat()).is_err() && loaded(&flipped).is_err()
        }
    }

    #[test]
    fn a_length_takes_no_memory_by_itself() {
        let mut bytes = image(&BTreeMap::from([(vec![], vec![])])).1;
        let length = bytes.len();
        bytes[length - 4..].fill(0xff);
        assert_eq!(loaded(&bytes), Err(malformed("it ends in a pair")));
    }
}
