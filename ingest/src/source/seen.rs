//! Which numbers of a refs channel are in a dataset already.

use super::Skeleton;

/// Numbers of a refs channel, as stretches that do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    stretches: Vec<(u64, u64)>,
    last: usize,
}

impl Seen {
    /// The numbers of these chunks.
    pub fn of<'a>(skeletons: impl Iterator<Item = &'a Skeleton>) -> Self {
        let mut stretches: Vec<(u64, u64)> = skeletons
            .flat_map(|s| s.noted.numbers.iter().copied())
            .collect();
        stretches.sort_unstable();
        stretches.dedup_by(|b, a| {
            let joined = b.0 <= a.1;
            if joined {
                a.1 = a.1.max(b.1);
            }
            joined
        });
        Self { stretches, last: 0 }
    }

    /// Whether a number is among them; numbers asked for one after the other are found at once.
    #[inline]
    pub fn contains(&mut self, seq: u64) -> bool {
        if self.stretches.is_empty() {
            return false;
        }
        let within = |s: Option<&(u64, u64)>| s.is_some_and(|s| s.0 <= seq && seq < s.1);
        if within(self.stretches.get(self.last)) {
            return true;
        }
        let behind = self.stretches.partition_point(|s| s.0 <= seq);
        self.last = behind.saturating_sub(1);
        within(self.stretches.get(self.last))
    }
}
