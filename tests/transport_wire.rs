//! The wire format: round trips, damage, limits, rules for the unknown, and golden frames that later versions must
//! still read. See `docs/format-wire.md`.
#![cfg(feature = "node")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

#[path = "support/any_message.rs"]
mod any_message;

use std::path::PathBuf;
use std::time::Duration;

use any_message::AnyMessage;
use bytes::Bytes;
use quickcheck::QuickCheck;
use tenure::config::{Limits, Priority};
use tenure::log::{Entry, EntryKind, LogSlice};
use tenure::message::{
    Abdicate, Abdicated, AppendEntries, AppendOutcome, AppendResponse, Body, Message, Rank, ReadIndex,
    ReadIndexResponse, Refusal, Verdict, VoteRequest, VoteResponse,
};
use tenure::time::Instant;
use tenure::types::{ClusterId, EntryId, GroupId, Index, NodeId, RoundId, StoreId, Term};
use tenure::wire::DecodeError;
use tenure::wire::codec::{self, Frame};
use tenure::wire::handshake::{self, Answer, Hello, Parsed, Refused};

const LIMIT: usize = 4 << 20;

fn decode_all(frames: &[Frame], limit: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for frame in frames {
        let before = messages.len();
        assert_eq!(codec::decode_frame(&frame.bytes, limit, &mut messages), Ok(0));
        assert_eq!(messages.len() - before, frame.messages);
    }
    messages
}

fn encode_one(messages: &[Message]) -> Bytes {
    let mut frames = Vec::new();
    assert_eq!(codec::encode(messages, LIMIT, &mut frames), 0);
    assert_eq!(frames.len(), 1);
    frames.remove(0).bytes
}

#[test]
fn any_messages_come_back_as_they_were() {
    fn property(messages: Vec<AnyMessage>) -> bool {
        let messages: Vec<Message> = messages.into_iter().map(|any| any.0).collect();
        let mut frames = Vec::new();
        codec::encode(&messages, LIMIT, &mut frames) == 0 && decode_all(&frames, LIMIT) == messages
    }
    QuickCheck::new().quickcheck(property as fn(Vec<AnyMessage>) -> bool);
}

/// No frame is longer than the limit, order is kept across frames, and only what can never fit is left out.
#[test]
fn a_batch_is_cut_into_frames_within_the_limit() {
    fn property(messages: Vec<AnyMessage>, limit: u16) -> bool {
        let messages: Vec<Message> = messages.into_iter().map(|any| any.0).collect();
        let limit = 400 + usize::from(limit) % 4000;
        let mut frames = Vec::new();
        let left_out = codec::encode(&messages, limit, &mut frames);
        let decoded = decode_all(&frames, limit);
        let mut rest = messages.iter();
        let in_order = decoded.iter().all(|message| rest.any(|original| original == message));
        in_order && decoded.len() + left_out == messages.len()
    }
    QuickCheck::new().quickcheck(property as fn(Vec<AnyMessage>, u16) -> bool);
}

#[test]
fn any_bytes_decode_without_panic() {
    fn property(bytes: Vec<u8>) -> bool {
        let mut messages = Vec::new();
        let _ = codec::decode_frame(&bytes, LIMIT, &mut messages);
        let _ = codec::decode_body(&bytes, &mut messages);
        let _ = handshake::parse_hello(&bytes);
        let _ = handshake::parse_answer(&bytes);
        true
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(Vec<u8>) -> bool);
}

/// Damage behind the checksum, as a buggy or hostile peer would send it: an error or other messages, never a panic.
#[test]
fn damaged_bodies_decode_without_panic() {
    fn property(message: AnyMessage, at: usize, value: u8, cut: usize) -> bool {
        let frame = encode_one(&[message.0]);
        let mut body = frame[16..].to_vec();
        let at = at % body.len();
        body[at] = value;
        let mut messages = Vec::new();
        let _ = codec::decode_body(&body, &mut messages);
        body.truncate(cut % (body.len() + 1));
        let _ = codec::decode_body(&body, &mut messages);
        true
    }
    QuickCheck::new().tests(3000).quickcheck(property as fn(AnyMessage, usize, u8, usize) -> bool);
}

#[test]
fn every_flipped_bit_in_a_frame_is_detected() {
    let frame = encode_one(&samples());
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut messages = Vec::new();
        assert!(codec::decode_frame(&damaged, LIMIT, &mut messages).is_err(), "bit {bit}");
        assert!(messages.is_empty(), "bit {bit}");
    }
    let hello = hello().encode();
    for bit in 0..hello.len() * 8 {
        let mut damaged = hello.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(handshake::parse_hello(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn a_frame_cut_anywhere_is_incomplete() {
    let frame = encode_one(&samples());
    for end in 0..frame.len() {
        let result = codec::decode_frame(&frame[..end], LIMIT, &mut Vec::new());
        assert_eq!(result, Err(DecodeError::Truncated("a frame")), "cut at {end}");
    }
    let result = codec::decode_frame(&[&frame[..], b"x"].concat(), LIMIT, &mut Vec::new());
    assert_eq!(result, Err(DecodeError::Trailing("a frame")));
}

/// Payloads of one append are slices of one buffer that holds nothing else (`l28`).
#[test]
fn l28_payloads_share_one_buffer_per_append() {
    let frame = encode_one(&[append(vec![(1, b"one"), (1, b"two"), (2, b"three")])]);
    let mut messages = Vec::new();
    codec::decode_frame(&frame, LIMIT, &mut messages).unwrap();
    let Body::AppendEntries(append) = &messages[0].body else { panic!("{messages:?}") };
    let payloads: Vec<&Bytes> = append.slice.entries().iter().map(|entry| &entry.payload).collect();
    let address = |bytes: &Bytes| bytes.as_ptr() as usize;
    // Between two payloads of one term there is nothing but the header of an entry, between terms also a run's.
    assert_eq!(address(payloads[1]), address(payloads[0]) + 3 + 5);
    assert_eq!(address(payloads[2]), address(payloads[1]) + 3 + 12 + 5);
}

/// A message of a kind that this version does not know is stepped over; its neighbours arrive.
#[test]
fn unknown_things_are_skipped_and_counted() {
    let known = encode_one(&[append(vec![(1, b"payload")])])[16..].to_vec();

    let mut unknown_kind = known.clone();
    unknown_kind[0] = 99;
    let mut unknown_entry = known.clone();
    let data = known.len() - (12 + 5 + 7);
    assert_eq!(unknown_entry[data + 12], 0, "the kind of the entry");
    unknown_entry[data + 12] = 77;
    // Field 99, a varint, at the end of the control part.
    let mut unknown_field = known.clone();
    unknown_field.splice(data..data, [0x98, 0x06, 0x01]);
    unknown_field[4] += 3;

    let mut messages = Vec::new();
    let body = [&known[..], &unknown_kind, &unknown_entry, &unknown_field, &known].concat();
    assert_eq!(codec::decode_body(&body, &mut messages), Ok(2));
    assert_eq!(messages, vec![append(vec![(1, b"payload")]); 3]);
}

/// Answers of a newer version are skipped, a missing one is malformed.
#[test]
fn unknown_verdicts_are_skipped_and_missing_ones_refused() {
    let granted = Message { body: Body::VoteResponse(vote_response(Verdict::Granted)), ..append(vec![]) };
    let body = encode_one(&[granted])[16..].to_vec();
    let at = body.windows(2).rposition(|pair| pair == [7 << 3, 1]).unwrap() + 1;
    let with = |verdict: u8| {
        let mut body = body.clone();
        body[at] = verdict;
        codec::decode_body(&body, &mut Vec::new())
    };
    assert_eq!(with(1), Ok(0));
    assert_eq!(with(100), Ok(1));
    assert_eq!(with(0), Err(DecodeError::Value { what: "the verdict of a vote", value: 0 }));
}

/// A wish that this version does not know costs nobody an acknowledgment.
#[test]
fn an_unknown_priority_is_the_normal_one() {
    let response = append_response(AppendOutcome::Accepted { matched: Index(7) });
    let message =
        |priority| Message { body: Body::AppendResponse(AppendResponse { priority, ..response }), ..append(vec![]) };
    let mut body = encode_one(&[message(Priority::High)])[16..].to_vec();
    // Field 16, a varint, with the number of `High`.
    assert!(body.ends_with(&[0x80, 0x01, 2]), "{body:02x?}");
    *body.last_mut().unwrap() = 100;
    let mut messages = Vec::new();
    assert_eq!(codec::decode_body(&body, &mut messages), Ok(0));
    assert_eq!(messages, [message(Priority::Normal)]);
}

/// Slots are cut to whole microseconds and to what 32 bits hold; being without a rank differs from being first at once.
#[test]
fn ranks_arrive_to_the_microsecond() {
    let arrives = |rank: Option<Rank>| {
        let mut message = append(vec![]);
        let Body::AppendEntries(append) = &mut message.body else { panic!("{message:?}") };
        append.rank = rank;
        let mut messages = Vec::new();
        codec::decode_frame(&encode_one(&[message]), LIMIT, &mut messages).unwrap();
        let Body::AppendEntries(append) = &messages[0].body else { panic!("{messages:?}") };
        append.rank
    };
    let first = |slot| Some(Rank { place: 0, slot });
    assert_eq!(arrives(None), None);
    assert_eq!(arrives(first(Duration::ZERO)), first(Duration::ZERO));
    assert_eq!(arrives(first(Duration::from_nanos(2_999))), first(Duration::from_micros(2)));
    assert_eq!(arrives(first(Duration::MAX)), first(Duration::from_micros(u32::MAX.into())));
}

/// A count that promises more than the bytes can hold is refused before room is made for it.
#[test]
fn counts_are_compared_with_the_bytes_that_are_there() {
    // Control of an append: field 10 (`entries`) = 2^32 - 1, nothing else.
    let control = [10 << 3, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let record = |data: &[u8]| {
        let mut body = vec![5, 0, 0, 0];
        body.extend((control.len() as u32).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(control);
        body.extend(data);
        body
    };
    let outcome = |data: &[u8]| codec::decode_body(&record(data), &mut Vec::new());
    assert_eq!(outcome(&[]), Err(DecodeError::Truncated("the entries of an append")));
    assert_eq!(outcome(&[0; 1000]), Err(DecodeError::Truncated("the entries of an append")));
}

/// `LogSlice::new` is the only door: entries whose terms fall do not get in.
#[test]
fn malformed_slices_are_refused() {
    let good = encode_one(&[append(vec![(2, b"x"), (3, b"y")])])[16..].to_vec();
    let second_term = good.len() - (12 + 5 + 1);
    assert_eq!(good[second_term], 3);
    let mut falling = good.clone();
    falling[second_term] = 1;
    let result = codec::decode_body(&falling, &mut Vec::new());
    assert!(matches!(result, Err(DecodeError::Slice(_))), "{result:?}");
}

/// One append of `append_bytes`, one command of `command_bytes` on top, each entry in a term of its own: it fits.
#[test]
fn the_largest_append_fits_the_frame_limit_derived_from_it() {
    let mut limits = Limits::default();
    (limits.append_bytes, limits.command_bytes, limits.append_entries) = (10_000, 3_000, 100);
    let large = vec![7; 3_000];
    let small = [7; 10_000 / 99];
    let entries = (1..=99).map(|term| (term, &small[..])).chain([(100, &large[..])]).collect();
    let mut frames = Vec::new();
    assert_eq!(codec::encode(&[append(entries)], codec::frame_bytes_needed(&limits), &mut frames), 0);
    assert_eq!(frames.len(), 1);
}

#[test]
fn handshakes_come_back_as_they_were() {
    let hello = hello();
    let bytes = hello.encode();
    assert_eq!(handshake::parse_hello(&bytes), Ok(Parsed::Complete { value: hello, bytes: bytes.len() }));
    for answer in answers() {
        let bytes = answer.encode();
        assert_eq!(handshake::parse_answer(&bytes), Ok(Parsed::Complete { value: answer, bytes: bytes.len() }));
    }
}

#[test]
fn a_partial_handshake_never_asks_for_much() {
    let bytes = hello().encode();
    for end in 0..bytes.len() {
        match handshake::parse_hello(&bytes[..end]) {
            Ok(Parsed::Partial { needed }) => assert!(needed > end && needed <= bytes.len()),
            other => panic!("{end}: {other:?}"),
        }
    }
    assert_eq!(handshake::parse_hello(b"GET / HTTP/1.1"), Err(DecodeError::Magic));
    assert_eq!(handshake::parse_hello(b"G"), Err(DecodeError::Magic));
    assert!(handshake::parse_answer(&bytes).is_err(), "a Hello is no Answer");
}

#[test]
fn versions_are_negotiated_to_the_newest_common_one() {
    assert_eq!(handshake::common_version((1, 1)), Some(1));
    assert_eq!(handshake::common_version((1, 9)), Some(1));
    assert_eq!(handshake::common_version((2, 9)), None);
    assert_eq!(handshake::common_version((0, 0)), None);
    assert_eq!(handshake::common_version((9, 1)), None, "upside down");
}

/// Frames written by earlier versions, byte for byte. A difference here breaks rolling upgrades: do not regenerate the
/// files unless the format version changes. A new file is written by `TENURE_WRITE_GOLDEN=1 cargo test --test transport_wire`.
#[test]
fn golden_frames_are_written_and_read_as_ever() {
    for (n, sample) in samples().into_iter().enumerate() {
        golden_messages(&format!("message-{n:02}"), &[sample]);
    }
    golden_messages("messages-all", &first_samples());
    golden_messages("messages-later", &later_samples());
    golden("hello", &hello().encode());
    for (n, answer) in answers().iter().enumerate() {
        golden(&format!("answer-{n:02}"), &answer.encode());
    }
}

/// What the first writers did not know is missing in their frames, and reads as what a node says that wants nothing:
/// no rank, nothing fresh, the oldest configuration, the normal priority.
#[test]
fn fields_that_older_writers_do_not_know_have_defaults() {
    let mut messages = Vec::new();
    let frame = std::fs::read(golden_path("messages-all")).unwrap();
    assert_eq!(codec::decode_frame(&frame, LIMIT, &mut messages), Ok(0));
    assert_eq!(messages.len(), 16);
    let mut seen = [0; 3];
    for message in messages {
        match message.body {
            Body::PreVote(request) | Body::Vote(request) => {
                assert_eq!(request.configuration, Index::ZERO);
                seen[0] += 1;
            }
            Body::AppendEntries(append) => {
                assert_eq!((append.rank, append.fresh), (None, None));
                seen[1] += 1;
            }
            Body::AppendResponse(response) => {
                assert_eq!((response.sent, response.priority), (Instant::ZERO, Priority::Normal));
                seen[2] += 1;
            }
            _ => {}
        }
    }
    assert_eq!(seen, [3, 3, 4], "requests for votes, appends and their answers");
}

fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("wire-v1-{name}.bin"))
}

/// The file has these bytes. If there is none yet, it may be written now.
fn golden(name: &str, bytes: &[u8]) {
    let path = golden_path(name);
    if std::env::var_os("TENURE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(bytes, expected, "{name} is written differently");
}

/// The file is a frame of these messages.
fn golden_messages(name: &str, messages: &[Message]) {
    golden(name, &encode_one(messages));
    let mut read = Vec::new();
    let frame = std::fs::read(golden_path(name)).unwrap();
    assert_eq!(codec::decode_frame(&frame, LIMIT, &mut read), Ok(0), "{name}");
    assert_eq!(read, messages, "{name} is read differently");
}

fn hello() -> Hello {
    Hello {
        versions: (1, 1),
        cluster: ClusterId::new("orders-eu").unwrap(),
        from: NodeId(1),
        to: NodeId(2),
        store: StoreId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
    }
}

fn answers() -> Vec<Answer> {
    let store = StoreId(0xfeed);
    vec![
        Answer::Accepted { version: 1, store },
        Answer::Refused(Refused::Version(1, 1)),
        Answer::Refused(Refused::Cluster(ClusterId::new("orders-us").unwrap())),
        Answer::Refused(Refused::Node(NodeId(3))),
        Answer::Refused(Refused::SameNode),
        Answer::Refused(Refused::StoreReplaced(store)),
        Answer::Refused(Refused::Other(1000)),
    ]
}

fn append(entries: Vec<(u64, &[u8])>) -> Message {
    let mut index = Index(6);
    let entries = entries
        .into_iter()
        .map(|(term, payload)| {
            index = index.next();
            Entry { id: EntryId::new(index, term), kind: EntryKind::Command, payload: Bytes::copy_from_slice(payload) }
        })
        .collect();
    Message {
        group: GroupId(1),
        from: NodeId(1),
        to: NodeId(2),
        term: Term(3),
        body: Body::AppendEntries(AppendEntries {
            stamp: Instant::from_nanos(1_000_000),
            round: RoundId(4),
            commit: Index(5),
            rank: None,
            fresh: None,
            snapshot: false,
            slice: LogSlice::new(EntryId::new(6, 1), entries).unwrap(),
        }),
    }
}

fn vote_response(verdict: Verdict) -> VoteResponse {
    VoteResponse { round: RoundId(9), campaign_term: Term(4), verdict }
}

fn append_response(outcome: AppendOutcome) -> AppendResponse {
    AppendResponse {
        stamp: Instant::from_nanos(1_000_000),
        round: RoundId(4),
        request_term: Term(3),
        promise_ms: 1000,
        sent: Instant::ZERO,
        priority: Priority::Normal,
        outcome,
    }
}

/// One message of every kind and every variant in it.
fn samples() -> Vec<Message> {
    [first_samples(), later_samples()].concat()
}

/// What the first writers said. Fields that they did not know are missing, that is have their defaults.
fn first_samples() -> Vec<Message> {
    let vote = VoteRequest {
        round: RoundId(9),
        campaign_term: Term(4),
        last: EntryId::new(7, 3),
        configuration: Index::ZERO,
        abdicated: None,
    };
    let abdicated = Some(Abdicated { leader: NodeId(3), term: Term(3) });
    let response = |outcome| Body::AppendResponse(append_response(outcome));
    let last = EntryId::new(7, 3);
    let promised = |leader| Refusal::Promised { leader, term: Term(3), remaining: Duration::from_millis(700) };
    let mismatch = |conflict| response(AppendOutcome::Mismatch { prev: Index(6), last, conflict });
    let entry = |index: u64, kind, payload: &'static [u8]| Entry {
        id: EntryId::new(index, 3),
        kind,
        payload: Bytes::from_static(payload),
    };
    let mixed = vec![
        entry(1, EntryKind::Configuration, b"members"),
        entry(2, EntryKind::Noop, b""),
        entry(3, EntryKind::Command, b"set x 1"),
    ];
    let mixed = AppendEntries {
        stamp: Instant::from_nanos(u64::MAX),
        round: RoundId(u64::MAX),
        commit: Index(u64::MAX),
        rank: None,
        fresh: None,
        snapshot: false,
        slice: LogSlice::new(EntryId::ZERO, mixed).unwrap(),
    };
    let envelope = append(vec![(1, b"one"), (1, b""), (3, b"three")]);
    let bodies = [
        Body::PreVote(vote),
        Body::Vote(vote),
        Body::Vote(VoteRequest { abdicated, ..vote }),
        Body::PreVoteResponse(vote_response(Verdict::Granted)),
        Body::VoteResponse(vote_response(Verdict::Refused(Refusal::OldTerm))),
        Body::VoteResponse(vote_response(Verdict::Refused(promised(Some(NodeId(3)))))),
        Body::VoteResponse(vote_response(Verdict::Refused(promised(None)))),
        Body::VoteResponse(vote_response(Verdict::Refused(Refusal::AlreadyVoted(NodeId(2))))),
        Body::VoteResponse(vote_response(Verdict::Refused(Refusal::LogBehind { last }))),
        append(vec![]).body,
        envelope.body.clone(),
        Body::AppendEntries(mixed),
        response(AppendOutcome::OldTerm),
        response(AppendOutcome::Accepted { matched: Index(9) }),
        mismatch(Some((Term(2), Index(5)))),
        mismatch(None),
    ];
    bodies.into_iter().map(|body| Message { body, ..envelope.clone() }).collect()
}

/// What is said since leases, transfers and reads at followers: later fields and kinds.
fn later_samples() -> Vec<Message> {
    let vote = VoteRequest {
        round: RoundId(9),
        campaign_term: Term(4),
        last: EntryId::new(7, 3),
        configuration: Index(6),
        abdicated: None,
    };
    let abdicated = Some(Abdicated { leader: NodeId(3), term: Term(3) });
    let refused = |reason| Body::PreVoteResponse(vote_response(Verdict::Refused(reason)));
    let ranked = |rank, fresh| {
        let mut message = append(vec![(3, b"set x 1")]);
        let Body::AppendEntries(append) = &mut message.body else { panic!("{message:?}") };
        (append.rank, append.fresh) = (rank, fresh);
        message.body
    };
    let rank = |place, millis| Some(Rank { place, slot: Duration::from_millis(millis) });
    let accepted = append_response(AppendOutcome::Accepted { matched: Index(9) });
    let sent = Instant::from_nanos(7_000_000);
    let read = |index| ReadIndexResponse { round: RoundId(5), request_term: Term(3), index };
    let bodies = [
        Body::PreVote(vote),
        Body::Vote(VoteRequest { abdicated, ..vote }),
        refused(Refusal::Removed { configuration: Index(8) }),
        refused(Refusal::CannotVote),
        ranked(rank(2, 3), None),
        ranked(rank(0, 0), Some(Instant::ZERO)),
        ranked(None, Some(sent)),
        Body::AppendResponse(AppendResponse { sent, ..accepted }),
        Body::AppendResponse(AppendResponse { sent, priority: Priority::Low, ..accepted }),
        Body::AppendResponse(AppendResponse { sent, priority: Priority::High, ..accepted }),
        Body::Abdicate(Abdicate { successor: Some(NodeId(2)) }),
        Body::Abdicate(Abdicate { successor: None }),
        Body::ReadIndex(ReadIndex { round: RoundId(5), lease: false }),
        Body::ReadIndex(ReadIndex { round: RoundId(5), lease: true }),
        Body::ReadIndexResponse(read(Some(Index(9)))),
        Body::ReadIndexResponse(read(Some(Index::ZERO))),
        Body::ReadIndexResponse(read(None)),
    ];
    bodies.into_iter().map(|body| Message { body, ..append(vec![]) }).collect()
}
