//! What happens to files.

use std::collections::BTreeSet;
use std::ops::Range;

use super::common::Random;
use super::original::Original;

/// One thing that happens to a file, places as in the whole one.
#[derive(Debug)]
pub(crate) enum Harm {
    /// One bit is another.
    Flip(usize, u8),
    /// Bytes are others.
    Garbage(Range<usize>, u64),
    /// A page that never reached the disk.
    Zeroes(Range<usize>),
    /// Bytes are gone, and the rest moved up.
    Delete(Range<usize>),
    /// Other bytes came between.
    Insert(usize, usize, u64),
    /// The end is gone.
    Cut(usize),
}

impl Harm {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Harm::Flip(..) => "flip",
            Harm::Garbage(..) => "garbage",
            Harm::Zeroes(..) => "zeroes",
            Harm::Delete(..) => "delete",
            Harm::Insert(..) => "insert",
            Harm::Cut(..) => "cut",
        }
    }

    /// One to four harms; at most one of them, the last, moves bytes.
    pub(crate) fn some(random: &mut Random, of: &Original) -> Vec<Harm> {
        let mut harms: Vec<Harm> = (0..random.below(4))
            .map(|_| Self::still(random, of))
            .collect();
        harms.push(match random.below(4) {
            0 => Self::still(random, of),
            1 => Harm::Delete(Self::range(random, of)),
            2 => {
                let len = 1 + random.below(5000) as usize;
                Harm::Insert(Self::place(random, of), len, random.next())
            }
            _ => Harm::Cut(Self::place(random, of)),
        });
        harms
    }

    fn still(random: &mut Random, of: &Original) -> Harm {
        match random.below(3) {
            0 => Harm::Flip(Self::place(random, of), 1 << random.below(8)),
            1 => Harm::Garbage(Self::range(random, of), random.next()),
            _ => {
                let page = Self::place(random, of) & !0xfff;
                Harm::Zeroes(page.max(of.header)..(page + 4096).min(of.bytes.len()))
            }
        }
    }

    /// Anywhere, seldom in the header; where blocks begin is as likely as any other place.
    fn place(random: &mut Random, of: &Original) -> usize {
        let len = of.bytes.len();
        match random.below(64) {
            0 => random.below(of.header as u64) as usize,
            1..=24 => {
                let blocks = of.blocks.len() as u64;
                of.blocks[random.below(blocks) as usize].range.start + random.below(32) as usize
            }
            _ => of.header + random.below((len - of.header) as u64) as usize,
        }
    }

    fn range(random: &mut Random, of: &Original) -> Range<usize> {
        let longest = [8, 300, 70_000][random.below(3) as usize];
        let from = Self::place(random, of);
        from..(from + 1 + random.below(longest) as usize).min(of.bytes.len())
    }
}

/// The file after all that, and its blocks that are not whole any more.
pub(crate) fn apply(harms: &[Harm], of: &Original) -> (Vec<u8>, BTreeSet<usize>) {
    let mut bytes = of.bytes.clone();
    let fill = |bytes: &mut [u8], seed: u64| {
        let mut garbage = Random(seed);
        bytes.iter_mut().for_each(|b| *b = garbage.next() as u8);
    };
    let mut moved = 0..0;
    for harm in harms {
        match harm {
            Harm::Flip(at, bit) => bytes[*at] ^= bit,
            Harm::Garbage(range, seed) => fill(&mut bytes[range.clone()], *seed),
            Harm::Zeroes(range) => bytes[range.clone()].fill(0),
            Harm::Delete(range) => moved = range.clone(),
            // Between two blocks it hurts neither.
            Harm::Insert(at, ..) => moved = *at..*at,
            Harm::Cut(at) => moved = *at..bytes.len(),
        }
    }
    let touched = |r: &Range<usize>| match moved.is_empty() {
        true => r.start < moved.start && moved.start < r.end,
        false => r.start < moved.end && moved.start < r.end,
    };
    let blocks = of.blocks.iter().map(|b| &b.range).enumerate();
    let gone = blocks.filter(|(_, r)| touched(r) || bytes[(*r).clone()] != of.bytes[(*r).clone()]);
    let gone = gone.map(|(i, _)| i).collect();
    match harms.last() {
        Some(Harm::Delete(range)) => drop(bytes.drain(range.clone())),
        Some(Harm::Cut(at)) => bytes.truncate(*at),
        Some(Harm::Insert(at, len, seed)) => {
            let mut new = vec![0; *len];
            fill(&mut new, *seed);
            bytes.splice(*at..*at, new);
        }
        Some(Harm::Flip(..) | Harm::Garbage(..) | Harm::Zeroes(..)) | None => {}
    }
    (bytes, gone)
}
