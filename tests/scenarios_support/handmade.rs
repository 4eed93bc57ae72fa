//! `send n2->n1 t5 Vote t5 r9 last 9@4`: a message that nobody sent, in the notation in which messages are printed.

use bytes::Bytes;
use tenure::config::Priority;
use tenure::log::{Entry, EntryKind, LogSlice};
use tenure::message::{
    Abdicate, Abdicated, AppendEntries, AppendOutcome, AppendResponse, Body, Message, ReadIndexResponse, Refusal,
    Verdict, VoteRequest, VoteResponse,
};
use tenure::time::Instant;
use tenure::types::{Index, NodeId};

use crate::support::lone::GROUP;
use crate::table::words::{Words, entry, node};
use crate::table::world::World;

/// Reads the message and delivers it at once.
pub(crate) fn send(world: &mut World, words: &mut Words<'_>) -> Result<(), String> {
    let link = words.next("a link like n2->n1")?;
    let (from, to) = link.split_once("->").ok_or("expected a link like n2->n1")?;
    let (from, to) = (node(from)?, node(to)?);
    let term = words.term()?;
    let body = Reader { world, from, to }.body(words)?;
    words.end()?;
    let message = Message { group: GROUP, from, to, term, body };
    world.notation.message(world.elapsed, &message, " (made by hand)");
    world.deliver(message);
    Ok(())
}

struct Reader<'a> {
    world: &'a mut World,
    from: NodeId,
    to: NodeId,
}

impl Reader<'_> {
    fn body(&mut self, words: &mut Words<'_>) -> Result<Body, String> {
        match words.next("a kind of message")? {
            "PreVote" => Ok(Body::PreVote(self.vote_request(words)?)),
            "Vote" => Ok(Body::Vote(self.vote_request(words)?)),
            "PreVoteResponse" => Ok(Body::PreVoteResponse(self.vote_response(words)?)),
            "VoteResponse" => Ok(Body::VoteResponse(self.vote_response(words)?)),
            "Append" => Ok(Body::AppendEntries(self.append(words)?)),
            "AppendResponse" => Ok(Body::AppendResponse(self.append_response(words)?)),
            "Abdicate" => {
                let successor = if words.accept("to") { Some(words.node()?) } else { None };
                Ok(Body::Abdicate(Abdicate { successor }))
            }
            "ReadIndexResponse" => Ok(Body::ReadIndexResponse(self.read_index_response(words)?)),
            other => Err(format!("`{other}` is no message that can be made by hand")),
        }
    }

    /// `t5 r9 last 9@4 abdicated n1 t4`.
    fn vote_request(&mut self, words: &mut Words<'_>) -> Result<VoteRequest, String> {
        let campaign_term = words.term()?;
        let round = self.world.notation.scribe.round_called(words.round()?);
        words.expect("last")?;
        let last = words.entry()?;
        let abdicated = match words.accept("abdicated") {
            true => Some(Abdicated { leader: words.node()?, term: words.term()? }),
            false => None,
        };
        Ok(VoteRequest { round, campaign_term, last, configuration: Index(1), abdicated })
    }

    /// `t5 r9 granted`, `t5 r9 refused`.
    fn vote_response(&mut self, words: &mut Words<'_>) -> Result<VoteResponse, String> {
        let campaign_term = words.term()?;
        let round = self.world.notation.scribe.round_called(words.round()?);
        let verdict = match words.next("granted or refused")? {
            "granted" => Verdict::Granted,
            "refused" => Verdict::Refused(Refusal::OldTerm),
            other => return Err(format!("`{other}` is neither granted nor refused")),
        };
        Ok(VoteResponse { round, campaign_term, verdict })
    }

    /// `after 1@1 [2@5, 3@5] commit 0 r1`.
    fn append(&mut self, words: &mut Words<'_>) -> Result<AppendEntries, String> {
        words.expect("after")?;
        let prev = words.entry()?;
        let mut entries = Vec::new();
        loop {
            let word = words.next("entries like [2@5, 3@5]")?;
            let id = word.trim_matches(|c| matches!(c, '[' | ']' | ','));
            if !id.is_empty() {
                let id = entry(id)?;
                let payload = Bytes::from(format!("hand{id}"));
                entries.push(Entry { id, kind: EntryKind::Command, payload });
            }
            if word.ends_with(']') {
                break;
            }
        }
        words.expect("commit")?;
        let commit = words.index()?;
        let round = self.world.notation.scribe.round_called(words.round()?);
        let slice = LogSlice::new(prev, entries).map_err(|error| error.to_string())?;
        Ok(AppendEntries { stamp: Instant::ZERO, round, commit, rank: None, fresh: None, snapshot: false, slice })
    }

    /// `to t2 r1 promise 1000 ms match 5`, or `.. old term`; it echoes the newest append on the link back.
    fn append_response(&mut self, words: &mut Words<'_>) -> Result<AppendResponse, String> {
        words.expect("to")?;
        let request_term = words.term()?;
        let round = self.world.notation.scribe.round_called(words.round()?);
        words.expect("promise")?;
        let promise_ms = words.number("a promise in ms")?;
        words.expect("ms")?;
        let outcome = match words.next("match or old term")? {
            "match" => AppendOutcome::Accepted { matched: words.index()? },
            "old" => words.expect("term").map(|()| AppendOutcome::OldTerm)?,
            other => return Err(format!("`{other}` is no outcome that can be made by hand")),
        };
        let request = self.world.network.newest((self.to, self.from), "Append").map(|message| &message.body);
        let Some(Body::AppendEntries(AppendEntries { stamp, .. })) = request else {
            return Err(format!("{} has sent no append to {}", self.to, self.from));
        };
        let (stamp, sent, priority) = (*stamp, Instant::ZERO, Priority::Normal);
        Ok(AppendResponse { stamp, round, request_term, promise_ms, sent, priority, outcome })
    }

    /// `to t2 r1 index 3`.
    fn read_index_response(&mut self, words: &mut Words<'_>) -> Result<ReadIndexResponse, String> {
        words.expect("to")?;
        let request_term = words.term()?;
        let round = self.world.notation.scribe.round_called(words.round()?);
        words.expect("index")?;
        Ok(ReadIndexResponse { round, request_term, index: Some(words.index()?) })
    }
}
