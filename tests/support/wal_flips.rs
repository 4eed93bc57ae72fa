//! Single bits of a whole, synced log are flipped, and opening it must notice.
//!
//! The oracle knows from the format which bytes carry meaning. A flip there is refused with the name of the file; or,
//! if nothing on disk proves that its batch was durable, the log ends right before that batch. A flip anywhere else (behind
//! the end, in padding, in a spare) changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "for tests only")]

use std::path::{Path, PathBuf};

use tenure::sim::disk::SimFs;

use crate::fates::Rng;
use crate::format::{Meaning, Reading, segment, seqs};
use crate::model::{Model, reopen};
use crate::run::{DIR, run};

/// What became of the flips.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    logs: u64,
    /// Flips of the identity, of headers of segments, in batches that are proved durable, and in others.
    identity: u64,
    header: u64,
    proved: u64,
    unproved: u64,
    pub(crate) refused: u64,
    /// Taken for a torn write, and told as one.
    pub(crate) cut: u64,
    /// In bytes that carry nothing.
    meaningless: u64,
}

/// One log that is whole.
struct Subject {
    fs: SimFs,
    model: Model,
    history: Vec<Model>,
    files: Vec<PathBuf>,
    reading: Reading,
}

impl Seen {
    pub(crate) fn flips(&self) -> u64 {
        self.refused + self.cut + self.meaningless
    }

    /// Writes the log of this seed and flips so many of its bits, one at a time.
    pub(crate) fn flip_bits_of_a_log(&mut self, seed: u64, flips: u64) {
        let subject = Subject::of(seed);
        self.logs += 1;
        let mut rng = Rng(seed);
        for _ in 0..flips {
            let (file, at) = subject.draw(&mut rng);
            self.flip(&subject, &file, at, rng.below(8), seed);
        }
    }

    fn flip(&mut self, subject: &Subject, file: &Path, at: usize, bit: u64, seed: u64) {
        let story = format!("seed {seed}, {} byte {at} bit {bit}", file.display());
        let disk = subject.fs.copy();
        disk.alter(file, |content| content[at] ^= 1 << bit);
        let opened = reopen(&disk, Path::new(DIR)).map(|(_, recovered, model)| (recovered.torn, model));
        let meaning = subject.reading.of_byte(file, at);
        match meaning {
            Meaning::Identity => self.identity += 1,
            Meaning::Header => self.header += 1,
            Meaning::Batch { proved: true, .. } => self.proved += 1,
            Meaning::Batch { proved: false, .. } => self.unproved += 1,
            Meaning::Nothing => self.meaningless += 1,
        }
        match (meaning, opened) {
            (Meaning::Nothing, Ok((_, model))) => assert_eq!(model, subject.model, "{story}"),
            (Meaning::Batch { proved: false, start, lsn }, Ok((torn, model))) => {
                let torn = torn.unwrap_or_else(|| panic!("{story}: unnoticed"));
                assert_eq!((torn.file.as_path(), torn.offset, torn.lsn), (file, start as u64, lsn), "{story}");
                assert!(subject.history.contains(&model), "{story}: {model:?} never was");
                self.cut += 1;
            }
            (Meaning::Identity | Meaning::Header | Meaning::Batch { proved: true, .. }, Err(error)) => {
                let name = file.file_name().unwrap().to_string_lossy();
                assert!(error.to_string().contains(&*name), "{story}: {error} does not say where");
                self.refused += 1;
            }
            (_, Ok(_)) => panic!("{story}: unnoticed"),
            (_, Err(error)) => panic!("{story}: refused without need: {error}"),
        }
    }
}

impl Subject {
    /// The log of a seeded workload that lost power and went on, all of it synced. Half of them end with a floor.
    fn of(seed: u64) -> Self {
        let run = run(seed, 10 + seed * 11 % 60, None);
        let fs = run.fs.copy();
        let (mut wal, _, model) = reopen(&fs, Path::new(DIR)).unwrap();
        if seed.is_multiple_of(2) {
            wal.floor().unwrap();
        }
        drop(wal);
        let fs = fs.copy();
        let files: Vec<_> = fs.names().into_iter().filter(|path| !fs.content(path).is_empty()).collect();
        let newest = *seqs(&files).last().unwrap();
        // What lies behind the end may look like batches: of a torn write, or of the file's life before this one.
        let torn = reopen(&fs.copy(), Path::new(DIR)).unwrap().1.torn.map(|torn| torn.offset as usize);
        let reading = Reading::of(newest, |seq| fs.content(&segment(seq)), torn);
        Self { model, history: run.history, files, reading, fs }
    }

    /// Mostly bytes that carry meaning, and among them as many of small things as of large ones.
    fn draw(&self, rng: &mut Rng) -> (PathBuf, usize) {
        let file = self.files[rng.pick(self.files.len())].clone();
        let length = self.fs.content(&file).len();
        let at = match self.reading.batches_of(&file) {
            Some(batches) if !batches.is_empty() && rng.below(8) > 0 => {
                let batch = &batches[rng.pick(batches.len())];
                let part = if rng.below(2) == 0 { batch.start..batch.payload } else { batch.start..batch.end };
                part.start + rng.pick(part.len())
            }
            Some(_) if rng.below(2) == 0 => rng.pick(crate::format::HEADER.min(200)),
            _ => rng.pick(length),
        };
        (file, at)
    }
}
