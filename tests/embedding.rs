//! The program of `docs/embedding.md`, step by step, and that the document shows it as it is.
//!
//! What stands between `// begin NAME` and `// end NAME` is in the document behind `<!-- tests/embedding.rs: NAME -->`.
//! `UPDATE=1 cargo test --features sim --test embedding` puts it there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

// begin machine
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use tenure::state_machine::{ApplyError, Command, SnapshotFiles, SnapshotSource, StateMachine};

/// What is in the log: so many of something come, or go.
#[derive(Clone, Debug)]
struct Order {
    /// Whoever asks again, because an answer got lost, uses the same number.
    number: u64,
    item: String,
    change: i64,
}

impl Order {
    fn encode(&self) -> Bytes {
        format!("{} {} {}", self.number, self.item, self.change).into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
        let mut next = || words.next();
        Some(Self { number: next()?.parse().ok()?, item: next()?.into(), change: next()?.parse().ok()? })
    }
}

#[derive(Default, Hash)]
struct Books {
    /// How many there are of everything.
    shelves: BTreeMap<String, u64>,
    /// What the last orders came to, by their numbers.
    done: BTreeMap<u64, Option<u64>>,
}

/// The state machine. Clones look into the same books: one is the group's, others read.
#[derive(Clone, Default)]
struct Stock {
    books: Arc<RwLock<Books>>,
}

impl Stock {
    fn count(&self, item: &str) -> u64 {
        self.books.read().unwrap().shelves.get(item).copied().unwrap_or(0)
    }
}

impl Books {
    /// How many there are now; `None` if there were too few to take. The same order changes the books once.
    fn carry_out(&mut self, order: Order) -> Option<u64> {
        if let Some(before) = self.done.get(&order.number) {
            return *before;
        }
        let shelf = self.shelves.entry(order.item).or_default();
        let left = shelf.checked_add_signed(order.change);
        *shelf = left.unwrap_or(*shelf);
        self.done.insert(order.number, left);
        if self.done.len() > 1000 {
            self.done.pop_first();
        }
        left
    }
}

impl StateMachine for Stock {
    type Output = Option<u64>;

    fn apply(&mut self, commands: &[Command]) -> Result<Vec<Option<u64>>, ApplyError> {
        let mut books = self.books.write().unwrap();
        let mut apply = |command: &Command| {
            let order =
                Order::decode(&command.data).ok_or_else(|| ApplyError(format!("{} is no order", command.id)))?;
            Ok(books.carry_out(order))
        };
        commands.iter().map(&mut apply).collect()
    }

    fn snapshot(&mut self) -> Result<Option<SnapshotSource>, ApplyError> {
        let Books { shelves, done } = &*self.books.read().unwrap();
        let shelves = shelves.iter().map(|(item, count)| format!("shelf {item} {count}\n"));
        let done = done.iter().map(|(number, left)| match left {
            Some(left) => format!("done {number} {left}\n"),
            None => format!("done {number} -\n"),
        });
        let lines: String = shelves.chain(done).collect();
        Ok(Some(SnapshotSource::Stream(Box::new(Cursor::new(lines)))))
    }

    fn restore(&mut self, snapshot: &SnapshotFiles) -> Result<(), ApplyError> {
        let failed = |error: std::io::Error| ApplyError(error.to_string());
        let mut books = Books::default();
        for line in BufReader::new(snapshot.stream().map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            books.read_line(&line).ok_or_else(|| ApplyError(format!("{line:?} is not of a snapshot")))?;
        }
        *self.books.write().unwrap() = books; // nothing of what was before shines through
        Ok(())
    }
}

impl Books {
    fn read_line(&mut self, line: &str) -> Option<()> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["shelf", item, count] => drop(self.shelves.insert(item.into(), count.parse().ok()?)),
            ["done", number, "-"] => drop(self.done.insert(number.parse().ok()?, None)),
            ["done", number, left] => drop(self.done.insert(number.parse().ok()?, Some(left.parse().ok()?))),
            _ => return None,
        }
        Some(())
    }
}
// end machine

// begin one
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tenure::config::Timing;
use tenure::quorum::Configuration;
use tenure::runtime::{Consistency, Group, Node, NodeConfig};
use tenure::types::{ClusterId, GroupId, NodeId};

const GROUP: GroupId = GroupId(1);

#[test]
fn one_node_is_a_cluster() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    Node::found(dir.path(), ClusterId::new("shop")?, NodeId(1))?; // once in the life of the directory
    let node = Node::open(config(dir.path())?)?;
    let (stock, alone) = (Stock::default(), Configuration::of_voters([NodeId(1)])?);
    let group = node.create_group(GROUP, alone, stock.clone())?; // once; later starts use `open_group`
    let order = Order { number: 1, item: "tea".into(), change: 5 };
    until("it leads", || group.propose(order.encode()).wait().ok());
    assert_eq!(stock.count("tea"), 5);
    Ok(node.shutdown(Duration::from_secs(5))?)
}

/// Short timeouts and small files: right for a test, wrong for a server.
fn config(dir: &Path) -> Result<NodeConfig, Box<dyn Error>> {
    let mut config = NodeConfig::new(dir, "127.0.0.1:0".parse()?); // port 0: a free one
    config.timing = Timing::from_election_timeout(Duration::from_millis(200));
    (config.wal.segment_bytes, config.wal.batch_bytes) = (4 << 20, 1 << 20);
    Ok(config)
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited for a minute: {what}");
}
// end one

// begin three
struct Member {
    node: Node,
    group: Group<Option<u64>>,
    stock: Stock,
}

fn start(root: &Path, id: u64) -> Result<Member, Box<dyn Error>> {
    let dir = root.join(format!("node-{id}"));
    Node::found(&dir, ClusterId::new("shop")?, NodeId(id))?;
    let node = Node::open(config(&dir)?)?;
    let stock = Stock::default();
    let group = if id <= 3 {
        let voters = Configuration::of_voters([1, 2, 3].map(NodeId))?; // the same list on all three
        node.create_group(GROUP, voters, stock.clone())?
    } else {
        node.join_group(GROUP, stock.clone())? // it waits until the others make it a member
    };
    Ok(Member { node, group, stock })
}

/// Tells everybody where everybody is. On servers with fixed ports this is `NodeConfig::peers`.
fn introduce(members: &[Member]) -> Result<(), Box<dyn Error>> {
    for one in members {
        for other in members {
            let address = other.node.local_addr().ok_or("no TCP")?.to_string();
            one.node.set_peer(other.node.identity().node, address)?;
        }
    }
    Ok(())
}

fn three(root: &Path) -> Result<Vec<Member>, Box<dyn Error>> {
    let members: Vec<Member> = [1, 2, 3].into_iter().map(|id| start(root, id)).collect::<Result<_, _>>()?;
    introduce(&members)?;
    Ok(members)
}
// end three

// begin write
/// Gives the order to whoever leads, until there is an answer. That is all right after an error of any kind, because its number
/// tells it from another order for the same.
fn give(members: &[Member], number: u64, change: i64) -> Option<u64> {
    let order = Order { number, item: "tea".into(), change };
    until("somebody takes the order", || {
        members.iter().find_map(|member| match member.group.propose(order.encode()).wait() {
            Ok(applied) => Some(applied.output),
            Err(error) if error.certainly_not_committed() => None, // for instance: this one does not lead
            Err(unknown) => {
                println!("{unknown}"); // without the number nobody could ask again without looking first
                None
            }
        })
    })
}

#[test]
fn what_one_member_acknowledged_all_have() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let members = three(root.path())?;
    assert_eq!(give(&members, 1, 5), Some(5));
    assert_eq!(give(&members, 2, -3), Some(2));
    assert_eq!(give(&members, 3, -3), None); // refused by the state machine: that is an answer, not an error
    assert_eq!(give(&members, 2, -3), Some(2)); // asked again: what it came to the first time
    for member in &members {
        until("it is read", || member.group.read(Consistency::Linearizable).wait().ok());
        assert_eq!(member.stock.count("tea"), 2);
    }
    Ok(())
}
// end write

// begin read
fn count(member: &Member, item: &str, how: Consistency) -> Option<u64> {
    member.group.read(how).wait().ok()?; // from now on the state is as fresh as was asked for
    Some(member.stock.count(item))
}

#[test]
fn reads_are_as_fresh_as_they_are_asked_to_be() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let members = three(root.path())?;
    give(&members, 1, 5);
    for member in &members {
        // Everything acknowledged before the read began; a follower asks its leader.
        assert_eq!(until("it is read", || count(member, "tea", Consistency::Linearizable)), 5);
        // The same, without a message while the leader holds a lease. Needs `GroupOptions::lease_reads`, else as above.
        assert_eq!(until("it is read", || count(member, "tea", Consistency::Lease)), 5);
        // Everything acknowledged a second ago; mostly answered by this node alone.
        let stale = Consistency::Follower(Duration::from_secs(1));
        until("it is read", || count(member, "tea", stale));
        // Whatever this node has applied, however old.
        until("it has come", || count(member, "tea", Consistency::Local).filter(|count| *count == 5));
    }
    Ok(())
}
// end read

// begin errors
use tenure::runtime::ProposalError;

#[test]
fn errors_say_what_to_do() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let members = three(root.path())?;
    give(&members, 1, 5);
    let order = Order { number: 1, item: "tea".into(), change: 5 };
    // A follower takes no orders, and says who does.
    let leader = until("a follower refuses", || {
        members.iter().find_map(|member| match member.group.propose(order.encode()).wait() {
            Err(ProposalError::NotLeader { leader }) => leader,
            _ => None,
        })
    });
    assert!(members.iter().any(|member| member.node.identity().node == leader));
    // A node that is shut down answers everything that waits, too: what was in its log already is `Unknown`.
    members[0].node.shutdown(Duration::from_secs(5))?;
    let error = members[0].group.propose(order.encode()).wait().unwrap_err();
    assert!(error.certainly_not_committed(), "{error}");
    assert_eq!(error, ProposalError::ShutDown);
    Ok(())
}
// end errors

// begin snapshot
#[test]
fn a_node_that_restarts_begins_with_its_snapshot() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let mut members = three(root.path())?;
    give(&members, 1, 5);
    let last = until("everything is applied", || {
        count(&members[0], "tea", Consistency::Local).filter(|count| *count == 5)?;
        members[0].group.snapshot().wait().ok() // also taken without being asked for: `NodeConfig::snapshots`
    });
    members.remove(0).node.shutdown(Duration::from_secs(5))?;

    let node = Node::open(config(&root.path().join("node-1"))?)?;
    let stock = Stock::default();
    let group = node.open_group(GROUP, stock.clone())?;
    assert_eq!(stock.count("tea"), 5); // restored, before anybody was asked
    assert!(group.status().is_some_and(|status| status.core.applied >= last.index));
    members.push(Member { node, group, stock });
    introduce(&members)?;
    give(&members, 2, 1);
    Ok(())
}
// end snapshot

// begin backup
#[test]
fn a_backup_founds_a_new_cluster() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let members = three(root.path())?;
    give(&members, 1, 5);
    until("it is applied", || count(&members[0], "tea", Consistency::Local).filter(|count| *count == 5));
    until("a snapshot", || members[0].group.snapshot().wait().ok());
    let store = members[0].node.snapshot_store(GROUP).ok_or("the group is open")?;
    let mut backup = Vec::new(); // a file, in earnest
    store.newest().ok_or("there is one")?.export(&mut backup, &|| true)?;

    // On every founder of the new cluster, with the same voters and the same bytes, instead of `create_group`.
    let dir = root.path().join("restored");
    Node::found(&dir, ClusterId::new("shop-2")?, NodeId(1))?;
    let node = Node::open(config(&dir)?)?;
    let (stock, alone) = (Stock::default(), Configuration::of_voters([NodeId(1)])?);
    node.restore_group(GROUP, alone, &mut &backup[..], stock.clone())?;
    assert_eq!(stock.count("tea"), 5);
    Ok(())
}
// end backup

// begin members
use tenure::runtime::{Change, ChangeError};
use tenure::types::Index;

/// Makes the voters these, from the configuration that was looked at.
fn make_voters(members: &[Member], voters: &[u64]) -> Result<Index, ChangeError> {
    let to = Configuration::of_voters(voters.iter().copied().map(NodeId)).unwrap();
    let leads =
        |member: &&Member| member.group.status().is_some_and(|status| status.core.leader == Some(status.core.id));
    let leader = until("somebody leads", || members.iter().find(leads));
    let seen = leader.group.status().map(|status| status.core.configuration_index);
    // New voters learn first, for as long as `patience`; who is not up by then does not become one.
    leader.group.change(Change { expected: seen, to, patience: Duration::from_secs(60) }).wait()
}

#[test]
fn a_fourth_node_comes_and_the_first_goes() -> Result<(), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let mut members = three(root.path())?;
    give(&members, 1, 5);
    members.push(start(root.path(), 4)?);
    introduce(&members)?;
    until("the members are changed", || make_voters(&members, &[2, 3, 4]).ok());
    members.remove(0).node.shutdown(Duration::from_secs(5))?;
    give(&members, 2, 1);
    assert_eq!(until("the new one has everything", || count(&members[2], "tea", Consistency::Linearizable)), 6);
    Ok(())
}
// end members

// begin sim
#[cfg(feature = "sim")]
mod simulated {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use bytes::Bytes;
    use tenure::sim::dice::Dice;
    use tenure::sim::linearizability::Model;
    use tenure::sim::{Plan, Subject, run};
    use tenure::types::NodeId;

    use super::{Order, Stock};

    /// What clients do with the stock: look, put there, take away.
    #[derive(Clone, Debug, PartialEq)]
    enum Wish {
        Look { item: u64 },
        Change { item: u64, by: i64 },
    }

    /// What one shelf should do, without any cluster.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Shelf(u64);

    impl Model for Shelf {
        type Operation = Wish;
        type Outcome = Option<u64>;

        fn step(&mut self, wish: &Wish) -> Option<u64> {
            match wish {
                Wish::Look { .. } => Some(self.0),
                Wish::Change { by, .. } => {
                    let left = self.0.checked_add_signed(*by)?;
                    self.0 = left;
                    Some(left)
                }
            }
        }
    }

    #[derive(Clone)]
    struct Shop;

    impl Subject for Shop {
        type Machine = Stock;
        type Operation = Wish;
        type Outcome = Option<u64>;
        type Model = Shelf;

        /// In memory: nothing is left of the one before.
        fn machine(&self, _: NodeId, _: Option<Stock>) -> Stock {
            Stock::default()
        }

        fn operation(&self, dice: &mut Dice, serial: u64) -> Wish {
            let item = serial / 100 * 3 + dice.number(0, 2);
            match dice.number(0, 2) {
                0 => Wish::Look { item },
                1 => Wish::Change { item, by: dice.number(1, 5) as i64 },
                _ => Wish::Change { item, by: -(dice.number(1, 5) as i64) },
            }
        }

        fn command(&self, wish: &Wish, nonce: u64) -> Option<Bytes> {
            match wish {
                Wish::Look { .. } => None,
                Wish::Change { item, by } => {
                    Some(Order { number: nonce, item: item.to_string(), change: *by }.encode())
                }
            }
        }

        fn outcome(&self, _: &Wish, output: Option<u64>) -> Option<u64> {
            output
        }

        fn query(&self, machine: &Stock, wish: &Wish) -> Option<u64> {
            Some(machine.count(&self.key(wish).to_string()))
        }

        fn key(&self, wish: &Wish) -> u64 {
            match wish {
                Wish::Look { item } | Wish::Change { item, .. } => *item,
            }
        }

        fn model(&self) -> Shelf {
            Shelf(0)
        }

        fn digest(&self, machine: &Stock) -> u64 {
            let mut hasher = DefaultHasher::new();
            machine.books.read().unwrap().hash(&mut hasher);
            hasher.finish()
        }
    }

    #[test]
    fn no_fault_shows_in_what_clients_see() {
        for seed in 0..5 {
            let mut plan = Plan::draw(seed); // crashes, lost and late messages, torn writes, clocks that jump
            plan.lasting /= 10; // for a test among others; leave it out for a long run
            let report = run(&plan, &Shop, false);
            assert_eq!(report.violation, None, "seed {seed}");
        }
    }
}
// end sim

/// The document shows what is compiled and run here.
#[test]
fn the_document_shows_this_program() {
    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/embedding.md");
    let source = include_str!("embedding.rs");
    let before = std::fs::read_to_string(DOCUMENT).unwrap();
    let (mut after, mut rest, mut shown) = (String::new(), before.as_str(), 0);
    while let Some(at) = rest.find("<!-- tests/embedding.rs: ") {
        let head = rest[at..].find("-->\n").unwrap() + at;
        let name = rest[at..head].trim_start_matches("<!-- tests/embedding.rs: ").trim();
        let begin = source.find(&format!("\n// begin {name}\n")).unwrap_or_else(|| panic!("no step {name}"));
        let end = source.find(&format!("\n// end {name}\n")).unwrap();
        let code = &source[begin + format!("\n// begin {name}\n").len()..=end];
        let fence = rest[head..].find("```rust").unwrap() + head;
        let close = rest[fence + 3..].find("```\n").unwrap() + fence + 3;
        after += &format!("{}```rust\n{code}", &rest[..fence]);
        (rest, shown) = (&rest[close..], shown + 1);
    }
    after += rest;
    assert_eq!(shown, source.matches("\n// begin ").count(), "a step is not in the document");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(DOCUMENT, &after).unwrap();
    }
    assert_eq!(after, std::fs::read_to_string(DOCUMENT).unwrap(), "UPDATE=1 rewrites docs/embedding.md");
}
