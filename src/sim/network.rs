//! The network of a world: what becomes of a frame between two nodes.

use std::fmt;

use bytes::Bytes;

use super::dice::{Dice, Span};
use super::tally::Tally;
use crate::time::{Duration, Instant};

/// How bad the network is. Chances are in millionths, per frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// How long a frame takes.
    pub delay: Span,
    /// Chance that it is lost.
    pub loss_ppm: u32,
    /// Chance that it comes twice.
    pub duplication_ppm: u32,
    /// Chance that it takes up to `straggle` longer.
    pub straggle_ppm: u32,
    /// See `straggle_ppm`.
    pub straggle: Duration,
    /// Chance that one of its bits is flipped.
    pub flip_ppm: u32,
    /// Whether frames of one link arrive in the order in which they left, as on a TCP connection.
    pub ordered: bool,
}

impl Weather {
    /// 100 to 500 us, nothing is lost.
    #[must_use]
    pub fn fair() -> Self {
        Self {
            delay: Span::micros(100, 500),
            loss_ppm: 0,
            duplication_ppm: 0,
            straggle_ppm: 0,
            straggle: Duration::ZERO,
            flip_ppm: 0,
            ordered: true,
        }
    }

    /// Row `l09`: 0 to 27 ms, 10 % lost, some answers up to 7 s late.
    #[must_use]
    pub fn lab() -> Self {
        Self {
            delay: Span::millis(0, 27),
            loss_ppm: 100_000,
            duplication_ppm: 20_000,
            straggle_ppm: 30_000,
            straggle: Duration::from_secs(7),
            flip_ppm: 0,
            ordered: false,
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?} to {:.1?}", self.delay.0, self.delay.1)?;
        let chances = [(self.loss_ppm, "lost"), (self.duplication_ppm, "twice"), (self.flip_ppm, "damaged")];
        for (ppm, what) in chances.into_iter().filter(|(ppm, _)| *ppm > 0) {
            write!(f, ", {:.1} % {what}", percent(ppm))?;
        }
        if self.straggle_ppm > 0 {
            write!(f, ", {:.1} % up to {:.1?} late", percent(self.straggle_ppm), self.straggle)?;
        }
        f.write_str(if self.ordered { "" } else { ", out of order" })
    }
}

fn percent(ppm: u32) -> f64 {
    f64::from(ppm) / 1e4
}

/// A directed link: from, to.
pub type Link = (u64, u64);

/// Links as they stand in a trace; the two directions between two nodes are written as one.
pub(super) fn written(links: &[Link]) -> String {
    let written = |link: &Link| match links.contains(&(link.1, link.0)) {
        true => (link.0 < link.1).then(|| format!("n{}-n{}", link.0, link.1)),
        false => Some(format!("n{}->n{}", link.0, link.1)),
    };
    let links: Vec<_> = links.iter().filter_map(written).collect();
    if links.is_empty() { "no link".to_owned() } else { links.join(" ") }
}

/// A frame that will arrive.
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) frame: Bytes,
    /// A bit of it was flipped.
    pub(super) flipped: bool,
}

pub(super) struct Network {
    /// What it is like now.
    pub(super) weather: Weather,
    /// What it is like without squalls, and how many are on.
    usual: Weather,
    squalls: u32,
    size: usize,
    /// By how many faults each directed link is cut.
    cuts: Vec<u32>,
    /// When the last frame of each link arrives.
    last: Vec<Instant>,
    dice: Dice,
}

impl Network {
    pub(super) fn new(size: usize, weather: Weather, seed: u64) -> Self {
        let links = (size + 1) * (size + 1);
        let usual = weather.clone();
        Self {
            weather,
            usual,
            squalls: 0,
            size,
            cuts: vec![0; links],
            last: vec![Instant::ZERO; links],
            dice: Dice::new(seed, "network"),
        }
    }

    /// From now on it is like this, squalls or not.
    pub(super) fn settle(&mut self, weather: Weather) {
        (self.usual, self.weather, self.squalls) = (weather.clone(), weather, 0);
    }

    /// The newest squall counts, until all have ended.
    pub(super) fn begin_squall(&mut self, weather: Weather) {
        self.squalls += 1;
        self.weather = weather;
    }

    pub(super) fn end_squall(&mut self) {
        self.squalls = self.squalls.saturating_sub(1);
        if self.squalls == 0 {
            self.weather = self.usual.clone();
        }
    }

    pub(super) fn cut(&mut self, link: Link) {
        let place = self.place(link);
        self.cuts[place] += 1;
    }

    pub(super) fn mend(&mut self, link: Link) {
        let place = self.place(link);
        self.cuts[place] = self.cuts[place].saturating_sub(1);
    }

    pub(super) fn mend_all(&mut self) {
        self.cuts.fill(0);
    }

    pub(super) fn is_cut(&self, link: Link) -> bool {
        self.cuts[self.place(link)] > 0
    }

    /// When, how often and in what state a frame arrives; nothing if it is lost.
    pub(super) fn post(&mut self, now: Instant, link: Link, frame: &Bytes, tally: &mut Tally) -> [Option<Arrival>; 2] {
        if self.is_cut(link) {
            tally.cut += 1;
            return [None, None];
        }
        if self.dice.chance(self.weather.loss_ppm) {
            tally.lost += 1;
            return [None, None];
        }
        let first = self.arrival(now, link, frame, tally);
        if !self.dice.chance(self.weather.duplication_ppm) {
            return [Some(first), None];
        }
        tally.duplicated += 1;
        let again = self.arrival(now, link, frame, tally);
        [Some(first), Some(again)]
    }

    /// Whether a frame of a connection is lost, and the connection with it.
    pub(super) fn loses(&self, link: Link, dice: &mut Dice, tally: &mut Tally) -> bool {
        let cut = self.is_cut(link);
        let lost = !cut && dice.chance(self.weather.loss_ppm);
        tally.cut += u64::from(cut);
        tally.lost += u64::from(lost);
        cut || lost
    }

    /// When and in what state a frame of a connection arrives, which is not before `after`; perhaps twice.
    pub(super) fn carry(
        &self,
        now: Instant,
        frame: &Bytes,
        after: Instant,
        dice: &mut Dice,
        tally: &mut Tally,
    ) -> Vec<Arrival> {
        let mut delay = dice.duration(self.weather.delay);
        if dice.chance(self.weather.straggle_ppm) {
            tally.straggled += 1;
            delay += dice.duration(Span(Duration::ZERO, self.weather.straggle));
        }
        let twice = dice.chance(self.weather.duplication_ppm);
        let flipped = dice.chance(self.weather.flip_ppm);
        tally.duplicated += u64::from(twice);
        tally.flipped += u64::from(flipped);
        let frame = if flipped { flip(frame, dice) } else { frame.clone() };
        let arrival = || Arrival { at: after.max(now + delay), frame: frame.clone(), flipped };
        (0..=usize::from(twice)).map(|_| arrival()).collect()
    }

    fn arrival(&mut self, now: Instant, link: Link, frame: &Bytes, tally: &mut Tally) -> Arrival {
        let mut delay = self.dice.duration(self.weather.delay);
        if self.dice.chance(self.weather.straggle_ppm) {
            tally.straggled += 1;
            delay += self.dice.duration(Span(Duration::ZERO, self.weather.straggle));
        }
        let mut at = now + delay;
        let place = self.place(link);
        if self.weather.ordered {
            at = at.max(self.last[place]);
        } else if at < self.last[place] {
            tally.reordered += 1;
        }
        self.last[place] = self.last[place].max(at);
        let flipped = self.dice.chance(self.weather.flip_ppm);
        let frame = if flipped { flip(frame, &mut self.dice) } else { frame.clone() };
        tally.flipped += u64::from(flipped);
        Arrival { at, frame, flipped }
    }

    fn place(&self, (from, to): Link) -> usize {
        from as usize * (self.size + 1) + to as usize
    }
}

fn flip(frame: &Bytes, dice: &mut Dice) -> Bytes {
    let mut bytes = frame.to_vec();
    let bit = dice.number(0, bytes.len() as u64 * 8 - 1) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}
