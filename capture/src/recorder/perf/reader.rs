//! The thread that empties the rings: bytes only, as fast as they come.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::sys::{self, Ring};
use crate::sys::clocks;

/// Longest wait for a ring to fill: what is in it is read this often.
const WAIT: Duration = Duration::from_millis(50);
/// Shortest time between two rounds.
const REST: Duration = Duration::from_millis(2);
/// Bytes that may wait for their translation. Above it the rings fill, and the kernel counts what is lost.
const IN_FLIGHT: usize = 64 << 20;

/// What all rings held at about one time.
#[derive(Debug)]
pub(super) struct Round {
    /// CLOCK_MONOTONIC before the first ring was read: whatever entered a ring before is in this round or an earlier one.
    pub(super) time_ns: u64,
    /// Place of the CPU, and its whole records.
    pub(super) bytes: Vec<(usize, Vec<u8>)>,
    /// Rings whose head and tail made no sense: place of the CPU, and what was found.
    pub(super) broken: Vec<(usize, String)>,
}

/// What the reader and the translator share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// No events any more: read the rest and end.
    pub(super) ending: AtomicBool,
    /// Bytes that wait for their translation.
    pub(super) in_flight: AtomicUsize,
}

/// Reads all rings once.
pub(super) fn read(rings: &mut [Ring]) -> Round {
    let mut round = Round {
        time_ns: clocks().monotonic_ns,
        bytes: Vec::new(),
        broken: Vec::new(),
    };
    for (at, ring) in rings.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        if let Err(e) = ring.drain(&mut bytes) {
            round.broken.push((at, e.to_string()));
        }
        if !bytes.is_empty() {
            round.bytes.push((at, bytes));
        }
    }
    round
}

/// Reads until told to end, and then what is left.
pub(super) fn run(rings: &mut [Ring], fds: &[BorrowedFd<'_>], shared: &Shared, to: &Sender<Round>) {
    loop {
        // Asked before the read: whatever was there when the events ended is then read.
        let ending = shared.ending.load(Ordering::Acquire);
        let round = read(rings);
        let bytes: usize = round.bytes.iter().map(|(_, bytes)| bytes.len()).sum();
        shared.in_flight.fetch_add(bytes, Ordering::Relaxed);
        if to.send(round).is_err() || ending {
            return; // nobody takes it any more, or all is read
        }
        let begun = Instant::now();
        while shared.in_flight.load(Ordering::Relaxed) > IN_FLIGHT
            && !shared.ending.load(Ordering::Acquire)
        {
            std::thread::sleep(REST);
        }
        if !sys::wait(fds, WAIT) && begun.elapsed() < WAIT / 2 {
            // Threads that ended wake poll at once, and for ever.
            std::thread::sleep(WAIT / 5);
        }
    }
}
