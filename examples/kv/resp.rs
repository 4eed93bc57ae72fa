//! Requests of the Redis serialization protocol, cut out of a growing buffer.
//!
//! A client sends flat arrays of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or, from a terminal, a line
//! (`GET k\r\n`). Nothing else is a request, so nothing nests and nothing recurses.
//!
//! Limits come first: a declared count or length is compared with its limit before a byte of what it announces is
//! waited for. The parser never looks at a byte twice and takes nothing from the buffer until a request is complete;
//! then the request leaves it as one slice, which its arguments share. The first malformed byte ends the conversation:
//! where the next request would begin cannot be known.

use std::fmt;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

/// What a client may send at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Arguments of one request, its name included.
    pub(crate) arguments: usize,
    /// Bytes of one argument.
    pub(crate) argument_bytes: usize,
    /// Bytes of all arguments of one request together.
    pub(crate) request_bytes: usize,
    /// Bytes of a request typed as one line.
    pub(crate) line_bytes: usize,
}

/// What is wrong with the input; its text follows `-ERR Protocol error: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    /// The count after `*` is no number, or above this limit.
    ArgumentCount { limit: usize },
    /// The length after `$` is no number, negative or above this limit.
    ArgumentLength { limit: usize },
    /// The declared lengths add up to more than this limit.
    RequestLength { limit: usize },
    /// Something else than a bulk string where an argument must stand, such as a nested array.
    ExpectedBulk(u8),
    /// A line or bulk string does not end with CRLF.
    ExpectedLineEnd,
    /// A line has no end within this limit.
    LineTooLong { limit: usize },
    /// A quote in a line is never closed, or something other than a space follows it.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArgumentCount { limit } => write!(f, "invalid multibulk length, at most {limit} arguments are taken"),
            Self::ArgumentLength { limit } => write!(f, "invalid bulk length, at most {limit} bytes are taken"),
            Self::RequestLength { limit } => write!(f, "too big request, at most {limit} bytes are taken"),
            Self::ExpectedBulk(byte) => write!(f, "expected '$', got '{}'", char::from(*byte).escape_default()),
            Self::ExpectedLineEnd => f.write_str("expected CRLF"),
            Self::LineTooLong { limit } => write!(f, "too big inline request, no line end within {limit} bytes"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The name of a command and its arguments. Never empty.
pub(crate) type Arguments = Vec<Bytes>;

/// `*` or `$`, a sign, the digits of the largest `i64`, CRLF; a longer line is no length.
const LENGTH_LINE_BYTES: usize = 32;

/// Cuts requests out of one connection's input.
#[derive(Debug)]
pub(crate) struct Parser {
    limits: Limits,
    state: State,
    /// Invariant: bytes of the buffer before this one belong to the request under way and are understood.
    position: usize,
    /// Invariant: no line feed in `buffer[position..scanned]`.
    scanned: usize,
}

#[derive(Debug)]
enum State {
    /// Between two requests.
    Start,
    /// Inside an array of bulk strings.
    Array(Array),
    /// Nothing can be understood any more.
    Failed(ProtocolError),
}

#[derive(Debug)]
struct Array {
    missing: usize,
    arguments: Vec<Range<usize>>,
    /// The length of the bulk string whose header has been read.
    length: Option<usize>,
    declared_bytes: usize,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, state: State::Start, position: 0, scanned: 0 }
    }

    /// Takes the next complete request from the front of `buffer`; `None`: more input is needed.
    ///
    /// Between two calls the buffer may only grow at its end.
    ///
    /// # Errors
    /// [`ProtocolError`], now and on every later call: answer it and close the connection.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Arguments>, ProtocolError> {
        let parsed = self.advance(buffer);
        if let Err(error) = parsed {
            self.state = State::Failed(error);
        }
        parsed.map(|ranges| ranges.map(|ranges| self.cut(buffer, ranges)))
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Option<Vec<Range<usize>>>, ProtocolError> {
        loop {
            let step = match (&self.state, buffer.first()) {
                (State::Failed(error), _) => return Err(*error),
                (State::Array(_), _) => self.array(buffer)?,
                (State::Start, None) => return Ok(None),
                (State::Start, Some(b'*')) => self.array_header(buffer)?,
                (State::Start, Some(_)) => self.line(buffer)?,
            };
            match step {
                Step::NeedsInput => return Ok(None),
                Step::Again => {}
                Step::Request(arguments) => return Ok(Some(arguments)),
            }
        }
    }

    fn cut(&mut self, buffer: &mut BytesMut, ranges: Vec<Range<usize>>) -> Arguments {
        let whole = buffer.split_to(self.position).freeze();
        self.restart();
        ranges.into_iter().map(|range| whole.slice(range)).collect()
    }

    fn restart(&mut self) {
        self.state = State::Start;
        self.position = 0;
        self.scanned = 0;
    }

    /// `*<count>\r\n`. An array of no arguments, or of minus one, is skipped as Redis skips it.
    fn array_header(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        let Some(line) = self.length_line(buffer)? else { return Ok(Step::NeedsInput) };
        let limit = self.limits.arguments;
        let count = number(&buffer[line]).ok_or(ProtocolError::ArgumentCount { limit })?;
        let Ok(missing) = usize::try_from(count) else { return Ok(self.skip(buffer)) };
        if missing > limit {
            return Err(ProtocolError::ArgumentCount { limit });
        }
        if missing == 0 {
            return Ok(self.skip(buffer));
        }
        let arguments = Vec::with_capacity(missing.min(16));
        self.state = State::Array(Array { missing, arguments, length: None, declared_bytes: 0 });
        Ok(Step::Again)
    }

    fn skip(&mut self, buffer: &mut BytesMut) -> Step {
        buffer.advance(self.position);
        self.restart();
        Step::Again
    }

    fn array(&mut self, buffer: &BytesMut) -> Result<Step, ProtocolError> {
        loop {
            let State::Array(array) = &mut self.state else { return Ok(Step::Again) };
            if array.missing == 0 {
                return Ok(Step::Request(std::mem::take(&mut array.arguments)));
            }
            match array.length {
                Some(length) => {
                    let end = self.position + length;
                    let Some(line_end) = buffer.get(end..end + 2) else { return Ok(Step::NeedsInput) };
                    if line_end != b"\r\n" {
                        return Err(ProtocolError::ExpectedLineEnd);
                    }
                    array.arguments.push(self.position..end);
                    array.missing -= 1;
                    array.length = None;
                    self.position = end + 2;
                    self.scanned = self.position;
                }
                None => {
                    if !self.bulk_header(buffer)? {
                        return Ok(Step::NeedsInput);
                    }
                }
            }
        }
    }

    /// `$<length>\r\n`; false: it is not all there yet.
    fn bulk_header(&mut self, buffer: &BytesMut) -> Result<bool, ProtocolError> {
        match buffer.get(self.position) {
            None => return Ok(false),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
        }
        let Some(line) = self.length_line(buffer)? else { return Ok(false) };
        let limit = self.limits.argument_bytes;
        let length = number(&buffer[line]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= limit).ok_or(ProtocolError::ArgumentLength { limit })?;
        if let State::Array(array) = &mut self.state {
            array.declared_bytes += length;
            if array.declared_bytes > self.limits.request_bytes {
                return Err(ProtocolError::RequestLength { limit: self.limits.request_bytes });
            }
            array.length = Some(length);
        }
        Ok(true)
    }

    /// The digits of the line at `position`, which is then behind it.
    fn length_line(&mut self, buffer: &[u8]) -> Result<Option<Range<usize>>, ProtocolError> {
        let start = self.position;
        let Some(end) = self.line_end(buffer, LENGTH_LINE_BYTES)? else { return Ok(None) };
        if end == start || buffer[end - 1] != b'\r' {
            return Err(ProtocolError::ExpectedLineEnd);
        }
        Ok(Some(start + 1..end - 1))
    }

    /// Where the line feed of the line at `position` stands; `position` is then behind it.
    fn line_end(&mut self, buffer: &[u8], limit: usize) -> Result<Option<usize>, ProtocolError> {
        let stop = buffer.len().min(self.position + limit);
        let from = self.scanned.clamp(self.position, stop);
        let Some(offset) = buffer[from..stop].iter().position(|byte| *byte == b'\n') else {
            self.scanned = stop;
            let too_long = stop == self.position + limit;
            return if too_long { Err(ProtocolError::LineTooLong { limit }) } else { Ok(None) };
        };
        let end = from + offset;
        self.position = end + 1;
        self.scanned = self.position;
        Ok(Some(end))
    }

    /// A request typed as a line; an empty line is skipped.
    fn line(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        let Some(end) = self.line_end(buffer, self.limits.line_bytes)? else { return Ok(Step::NeedsInput) };
        let words = split_words(&mut buffer[..end]).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.is_empty() {
            return Ok(self.skip(buffer));
        }
        if words.len() > self.limits.arguments {
            return Err(ProtocolError::ArgumentCount { limit: self.limits.arguments });
        }
        if words.iter().any(|word| word.len() > self.limits.argument_bytes) {
            return Err(ProtocolError::ArgumentLength { limit: self.limits.argument_bytes });
        }
        Ok(Step::Request(words))
    }
}

enum Step {
    NeedsInput,
    Again,
    Request(Vec<Range<usize>>),
}

/// A decimal number as the protocol writes it: an optional minus, digits, nothing else.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The words of a line, as a shell would see them: `"` with escapes, `'` without. Quotes and escapes are resolved in
/// place, a word never gets longer by it. `None`: a quote is not closed, or closed in the middle of a word.
fn split_words(line: &mut [u8]) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at += line[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if at == line.len() {
            return Some(words);
        }
        let (word, end) = take_word(line, at)?;
        words.push(word);
        at = end;
    }
}

/// The word that starts at `start`, and where the line goes on behind it.
fn take_word(line: &mut [u8], start: usize) -> Option<(Range<usize>, usize)> {
    let (mut read, mut write) = (start, start);
    let mut quote = None;
    while let Some(&byte) = line.get(read) {
        let (value, taken) = match (quote, byte) {
            (None, byte) if byte.is_ascii_whitespace() => break,
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                read += 1;
                continue;
            }
            (Some(open), byte) if open == byte => {
                let ends_word = line.get(read + 1).is_none_or(u8::is_ascii_whitespace);
                return ends_word.then_some((start..write, read + 1));
            }
            (Some(b'"'), b'\\') => escape(&line[read..]),
            (Some(b'\''), b'\\') if line.get(read + 1) == Some(&b'\'') => (b'\'', 2),
            _ => (byte, 1),
        };
        line[write] = value;
        write += 1;
        read += taken;
    }
    quote.is_none().then_some((start..write, read))
}

/// The byte that a backslash and what follows stand for, and how many bytes that was.
fn escape(text: &[u8]) -> (u8, usize) {
    let hex = |at: usize| text.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    match text.get(1) {
        Some(b'n') => (b'\n', 2),
        Some(b'r') => (b'\r', 2),
        Some(b't') => (b'\t', 2),
        Some(b'b') => (8, 2),
        Some(b'a') => (7, 2),
        Some(b'x') => match (hex(2), hex(3)) {
            (Some(high), Some(low)) => ((high * 16 + low) as u8, 4),
            _ => (b'x', 2),
        },
        Some(other) => (*other, 2),
        None => (b'\\', 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { arguments: 4, argument_bytes: 16, request_bytes: 32, line_bytes: 64 };

    /// Everything that `input` holds, fed in the given pieces.
    fn parse(pieces: &[&[u8]]) -> (Vec<Arguments>, Option<ProtocolError>) {
        let mut parser = Parser::new(LIMITS);
        let mut buffer = BytesMut::new();
        let mut requests = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match parser.next(&mut buffer) {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
        (requests, None)
    }

    fn requests(input: &[u8]) -> Vec<Vec<&'static str>> {
        let (requests, error) = parse(&[input]);
        assert_eq!(error, None);
        let text = |argument: Bytes| -> &'static str { String::from_utf8(argument.to_vec()).unwrap().leak() };
        requests.into_iter().map(|request| request.into_iter().map(text).collect()).collect()
    }

    fn error(input: &[u8]) -> ProtocolError {
        parse(&[input]).1.unwrap()
    }

    #[test]
    fn arrays_and_lines_are_requests() {
        let pipelined = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\n*1\r\n$4\r\nQUIT\r\n";
        assert_eq!(requests(pipelined), vec![vec!["GET", "k"], vec!["PING"], vec!["QUIT"]]);
    }

    #[test]
    fn empty_arguments_are_arguments_and_empty_requests_are_none() {
        assert_eq!(requests(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"), vec![vec!["ECHO", ""]]);
        assert_eq!(requests(b"*0\r\n*-1\r\n \r\n\nPING\n"), vec![vec!["PING"]]);
    }

    #[test]
    fn lines_may_be_quoted() {
        assert_eq!(requests(b"SET \"a b\\x41\\n\" 'it\\'s'\r\n"), vec![vec!["SET", "a bA\n", "it's"]]);
        assert_eq!(requests(b"SET \"\" x\r\n"), vec![vec!["SET", "", "x"]]);
        for open in [&b"SET \"a\r\n"[..], b"SET 'a\n", b"SET \"a\"b\n", b"SET \"a\\\n"] {
            assert_eq!(error(open), ProtocolError::UnbalancedQuotes);
        }
    }

    #[test]
    fn declared_numbers_are_refused_before_what_they_announce_arrives() {
        assert_eq!(error(b"*5\r\n"), ProtocolError::ArgumentCount { limit: 4 });
        assert_eq!(error(b"*99999999999999999999\r\n"), ProtocolError::ArgumentCount { limit: 4 });
        assert_eq!(error(b"*1\r\n$17\r\n"), ProtocolError::ArgumentLength { limit: 16 });
        assert_eq!(error(b"*1\r\n$-1\r\n"), ProtocolError::ArgumentLength { limit: 16 });
        assert_eq!(error(b"*x\r\n"), ProtocolError::ArgumentCount { limit: 4 });
        let three = b"*3\r\n$16\r\n0123456789abcdef\r\n$16\r\n0123456789abcdef\r\n$1\r\n";
        assert_eq!(error(three), ProtocolError::RequestLength { limit: 32 });
    }

    #[test]
    fn nested_arrays_are_refused_at_their_first_byte() {
        assert_eq!(error(b"*1\r\n*"), ProtocolError::ExpectedBulk(b'*'));
        assert_eq!(error(&b"*1\r\n".repeat(100_000)), ProtocolError::ExpectedBulk(b'*'));
    }

    #[test]
    fn lines_without_an_end_are_refused_at_the_limit() {
        assert_eq!(parse(&[&[b'a'; 63]]).1, None);
        assert_eq!(error(&[b'a'; 64]), ProtocolError::LineTooLong { limit: 64 });
        assert_eq!(error(&[b"*".as_slice(), &[b'1'; 40]].concat()), ProtocolError::LineTooLong { limit: 32 });
    }

    #[test]
    fn missing_line_ends_are_errors() {
        assert_eq!(error(b"*1\n$4\r\n"), ProtocolError::ExpectedLineEnd);
        assert_eq!(error(b"*1\r\n$4\r\nPINGxx"), ProtocolError::ExpectedLineEnd);
    }

    #[test]
    fn an_error_is_final() {
        let mut parser = Parser::new(LIMITS);
        let mut buffer = BytesMut::from(&b"*1\r\n:1\r\n"[..]);
        let first = parser.next(&mut buffer).unwrap_err();
        buffer.extend_from_slice(b"PING\r\n");
        assert_eq!(parser.next(&mut buffer), Err(first));
        assert_eq!(first.to_string(), "expected '$', got ':'");
    }

    /// Bytes that look enough like requests to get beyond the first check.
    fn plausible(noise: &[u8]) -> Vec<u8> {
        let pieces: [&[u8]; 16] = [
            b"*2\r\n",
            b"*1\r\n",
            b"$3\r\nGET\r\n",
            b"$1\r\nk\r\n",
            b"$0\r\n\r\n",
            b"PING\r\n",
            b"\r\n",
            b"*0\r\n",
            b"\"a b\" ",
            b"'",
            b"*3\r\n",
            b"$16\r\n",
            b"0123456789abcdef",
            b"*9\r\n",
            b"\n",
            b"x",
        ];
        noise.iter().flat_map(|byte| pieces[usize::from(byte % 16)].to_vec()).collect()
    }

    quickcheck::quickcheck! {
        /// However the network cuts the input, the same requests and the same error come out.
        fn where_the_input_is_cut_makes_no_difference(noise: Vec<u8>, cuts: Vec<usize>) -> bool {
            let input = plausible(&noise);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (input.len() + 1)).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
            let bytewise: Vec<&[u8]> = input.chunks(1).collect();
            let whole = parse(&[&input]);
            parse(&pieces) == whole && parse(&bytewise) == whole
        }

        /// Whatever arrives, the parser neither panics nor takes more than the limits.
        fn noise_stays_within_the_limits(noise: Vec<u8>) -> bool {
            let (requests, _) = parse(&[&noise]);
            requests.iter().all(|request| (1..=LIMITS.arguments).contains(&request.len()))
        }

        /// What a client library writes comes back as it was.
        fn encoded_requests_are_read_back(words: Vec<Vec<u8>>) -> bool {
            let words: Vec<Vec<u8>> = words.into_iter().take(4).map(|mut word| { word.truncate(8); word }).collect();
            let mut input = format!("*{}\r\n", words.len()).into_bytes();
            for word in &words {
                input.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                input.extend_from_slice(word);
                input.extend_from_slice(b"\r\n");
            }
            let (requests, error) = parse(&[&input]);
            let expected: Vec<Arguments> = vec![words.into_iter().map(Bytes::from).collect()];
            error.is_none() && (requests == expected || expected[0].is_empty() && requests.is_empty())
        }
    }
}
