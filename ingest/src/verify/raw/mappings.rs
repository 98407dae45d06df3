//! Which mappings are known of each process, and whether a use of a page agrees with one of them.

use std::collections::HashMap;

/// A stretch of address space and what backs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mapped {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) object: u32,
    pub(super) page: u64,
}

/// One use of a page, as far as mappings go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) tgid: u32,
    pub(super) addr: u64,
    pub(super) object: u32,
    pub(super) page: u64,
    pub(super) page_order: u8,
}

/// How a use came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A mapping known by then says the same.
    Agrees,
    /// No mapping known by then holds the address.
    Unknown,
    /// The mapping of that object has another page there.
    OtherPage(Mapped),
    /// The mapping there is of another object.
    OtherObject(Mapped),
}

/// Overlapping mappings looked at for one use: real processes have a few, crafted input as many as it likes.
const LOOKS: usize = 4096;

/// Mappings as they are learned: each once, with the first time it was told.
#[derive(Debug, Default)]
pub(super) struct Collected {
    first_told: HashMap<(u32, Mapped), u64>,
    /// Some were left out: there were too many.
    pub(super) left_out: bool,
}

impl Collected {
    /// Takes a mapping, unless there are `room` already.
    pub(super) fn add(&mut self, tgid: u32, mapped: Mapped, time_ns: u64, room: usize) {
        let full = self.first_told.len() >= room;
        match self.first_told.get_mut(&(tgid, mapped)) {
            Some(first) => *first = time_ns.min(*first),
            None if full => self.left_out = true,
            None => {
                self.first_told.insert((tgid, mapped), time_ns);
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.left_out |= other.left_out;
        for ((tgid, mapped), time_ns) in other.first_told {
            self.add(tgid, mapped, time_ns, usize::MAX);
        }
    }
}

/// Mappings of one process, by start.
#[derive(Debug, Default)]
struct Process {
    told: Vec<(Mapped, u64)>,
    /// Greatest end of the mappings up to here: no earlier one reaches further.
    reach: Vec<u64>,
}

/// All mappings, to be asked.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    processes: HashMap<u32, Process>,
    page_size: u64,
}

impl Mappings {
    pub(super) fn new(collected: Collected, page_size: u32) -> Self {
        let mut processes: HashMap<u32, Process> = HashMap::new();
        for ((tgid, mapped), time_ns) in collected.first_told {
            processes
                .entry(tgid)
                .or_default()
                .told
                .push((mapped, time_ns));
        }
        for process in processes.values_mut() {
            process
                .told
                .sort_unstable_by_key(|(m, t)| (m.start, m.end, *t, m.object, m.page));
            process.reach = process
                .told
                .iter()
                .scan(0, |reach, (m, _)| {
                    *reach = m.end.max(*reach);
                    Some(*reach)
                })
                .collect();
        }
        Self {
            processes,
            page_size: u64::from(page_size.max(1)),
        }
    }

    /// Whether `mapped` says of the address what the use says.
    fn agrees(&self, mapped: &Mapped, u: &Use) -> bool {
        if mapped.object != u.object || !holds(mapped, u.addr) {
            return false;
        }
        let page = ((u.addr - mapped.start) / self.page_size).wrapping_add(mapped.page);
        // A huge page is named by its first base page.
        let huge = u64::MAX.checked_shl(u32::from(u.page_order)).unwrap_or(0);
        page == u.page || page & huge == u.page
    }

    /// Holds a use at `by_ns` against the mappings told by then, and `of` the same life of the process. `last` is a
    /// mapping that agreed before: it mostly does again.
    pub(super) fn judge(
        &self,
        u: &Use,
        by_ns: u64,
        of: impl Fn(u64) -> bool,
        last: &mut Option<(u32, Mapped, u64)>,
    ) -> Verdict {
        if let Some((tgid, mapped, told_ns)) = last
            && *tgid == u.tgid
            && *told_ns <= by_ns
            && self.agrees(mapped, u)
        {
            return Verdict::Agrees;
        }
        let Some(process) = self.processes.get(&u.tgid) else {
            return Verdict::Unknown;
        };
        let behind = process.told.partition_point(|(m, _)| m.start <= u.addr);
        let mut verdict = Verdict::Unknown;
        let candidates = process.told.iter().zip(&process.reach).take(behind).rev();
        for (looks, ((mapped, told_ns), reach)) in candidates.enumerate() {
            if *reach <= u.addr {
                break;
            }
            if looks >= LOOKS {
                return Verdict::Unknown;
            }
            if !holds(mapped, u.addr) || *told_ns > by_ns {
                continue;
            }
            if self.agrees(mapped, u) {
                *last = Some((u.tgid, *mapped, *told_ns));
                return Verdict::Agrees;
            }
            if of(*told_ns) {
                verdict = match verdict {
                    Verdict::OtherPage(_) => verdict,
                    _ if mapped.object == u.object => Verdict::OtherPage(*mapped),
                    _ => Verdict::OtherObject(*mapped),
                };
            }
        }
        verdict
    }
}

fn holds(mapped: &Mapped, addr: u64) -> bool {
    mapped.start <= addr && addr < mapped.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(start: u64, end: u64, object: u32, page: u64) -> Mapped {
        Mapped {
            start,
            end,
            object,
            page,
        }
    }

    fn mappings(all: &[(Mapped, u64)]) -> Mappings {
        let mut collected = Collected::default();
        all.iter()
            .for_each(|(m, t)| collected.add(1, *m, *t, usize::MAX));
        Mappings::new(collected, 4096)
    }

    fn judge(m: &Mappings, addr: u64, object: u32, page: u64, by_ns: u64) -> Verdict {
        let u = Use {
            tgid: 1,
            addr,
            object,
            page,
            page_order: 0,
        };
        m.judge(&u, by_ns, |_| true, &mut None)
    }

    #[test]
    fn a_use_agrees_with_any_mapping_told_by_then() {
        let (small, large) = (
            mapped(0x3000, 0x5000, 8, 100),
            mapped(0x1000, 0x9000, 7, 10),
        );
        let m = mappings(&[(small, 50), (large, 20)]);
        assert_eq!(judge(&m, 0x3008, 7, 12, 20), Verdict::Agrees);
        assert_eq!(judge(&m, 0x3008, 8, 100, 50), Verdict::Agrees);
        assert_eq!(judge(&m, 0x4fff, 8, 101, 50), Verdict::Agrees);
        assert_eq!(judge(&m, 0x3008, 8, 100, 49), Verdict::OtherObject(large));
        assert_eq!(judge(&m, 0x3008, 7, 13, 99), Verdict::OtherPage(large));
        assert_eq!(judge(&m, 0x3008, 7, 12, 19), Verdict::Unknown);
        for outside in [0, 0xfff, 0x9000, u64::MAX] {
            assert_eq!(judge(&m, outside, 7, 12, 99), Verdict::Unknown);
        }
    }

    #[test]
    fn another_life_of_the_pid_contradicts_nothing() {
        let m = mappings(&[(mapped(0x1000, 0x2000, 7, 0), 20)]);
        let u = Use {
            tgid: 1,
            addr: 0x1000,
            object: 9,
            page: 0,
            page_order: 0,
        };
        assert_eq!(m.judge(&u, 99, |_| false, &mut None), Verdict::Unknown);
    }

    #[test]
    fn a_huge_page_is_named_by_its_first() {
        let m = mappings(&[(mapped(0x20_0000, 0x80_0000, 7, 0x200), 0)]);
        let u = Use {
            tgid: 1,
            addr: 0x41_2345,
            object: 7,
            page: 0x400,
            page_order: 9,
        };
        assert_eq!(m.judge(&u, 1, |_| true, &mut None), Verdict::Agrees);
        let base = Use { page_order: 0, ..u };
        assert!(matches!(
            m.judge(&base, 1, |_| true, &mut None),
            Verdict::OtherPage(_)
        ));
        let odd = Use {
            page_order: 255,
            ..u
        };
        assert!(matches!(
            m.judge(&odd, 1, |_| true, &mut None),
            Verdict::OtherPage(_)
        ));
    }

    #[test]
    fn too_many_are_left_out_and_told() {
        let mut collected = Collected::default();
        for i in 0..5 {
            collected.add(1, mapped(i * 8192, i * 8192 + 4096, 1, 0), 9, 3);
        }
        assert_eq!((collected.first_told.len(), collected.left_out), (3, true));
    }
}
