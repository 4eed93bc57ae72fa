//! The bytes: requests and answers between client and leader, records on the wire between the nodes and on disk.
//!
//! ```text
//! request   8 B unused | 16 B key | value          answer   8 B, all ones
//! record    4 B length | 4 B crc32c of what follows | 8 B index | 16 B key | value
//! acknowledgement      8 B: how many records the follower has on disk
//! ```

pub(crate) const KEY: usize = 16;
pub(crate) const ANSWER: usize = 8;
pub(crate) const ACKNOWLEDGEMENT: usize = 8;
const REQUEST_HEADER: usize = 8;
const RECORD_HEADER: usize = 16;
const CHECKED: usize = 8;

/// The length of a request with a value of `value` bytes.
pub(crate) fn request_bytes(value: usize) -> usize {
    REQUEST_HEADER + KEY + value
}

/// The length of a record with a value of `value` bytes.
pub(crate) fn record_bytes(value: usize) -> usize {
    RECORD_HEADER + KEY + value
}

/// The request of the client with this number.
pub(crate) fn request(client: usize, value: usize) -> Vec<u8> {
    let mut request = vec![0; request_bytes(value)];
    request[REQUEST_HEADER..REQUEST_HEADER + KEY].copy_from_slice(format!("{client:016}").as_bytes());
    request
}

/// Appends the record of `request` to `batch`; without a checksum if nobody will look at it.
pub(crate) fn push_record(batch: &mut Vec<u8>, index: u64, request: &[u8], checked: bool) {
    let start = batch.len();
    let body = &request[REQUEST_HEADER..];
    batch.extend_from_slice(&(body.len() as u32).to_le_bytes());
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&index.to_le_bytes());
    batch.extend_from_slice(body);
    if checked {
        let checksum = crc32c::crc32c(&batch[start + CHECKED..]);
        batch[start + 4..start + CHECKED].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Whether the record's checksum fits.
pub(crate) fn is_intact(record: &[u8]) -> bool {
    record[4..CHECKED] == crc32c::crc32c(&record[CHECKED..]).to_le_bytes()
}
