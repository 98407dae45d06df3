//! An address space as perf tells of it: what is mapped where.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::event::Map;
use super::proc::MapsLine;
use crate::record::ObjectKind;

/// Bits of an address inside a page.
const PAGE_SHIFT: u32 = 12;

/// What backs a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// A file, or what has an inode like one.
    File(Rc<FileBacking>),
    /// Memory of one address space; page numbers are those of the addresses.
    Own(ObjectKind),
}

/// A file behind mappings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileBacking {
    pub(super) dev: (u32, u32),
    pub(super) ino: u64,
    /// `None`: not told (/proc does not).
    pub(super) generation: Option<u32>,
    pub(super) kind: ObjectKind,
    pub(super) path: String,
    /// It had no name left when it was mapped.
    pub(super) deleted: bool,
}

/// What is known of one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) end: u64,
    /// Page index in the object at the begin.
    pub(super) page: u64,
    pub(super) backing: Backing,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) exec: bool,
    pub(super) shared: bool,
    /// The object's number in this recording, once it has one.
    pub(super) object: Option<u32>,
    /// A MAPPING record tells of it.
    pub(super) announced: bool,
}

/// The mappings of one address space, by their begin. They do not overlap.
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    areas: BTreeMap<u64, Area>,
}

impl Space {
    /// The mapping around an address, and its begin.
    pub(super) fn at(&mut self, addr: u64) -> Option<(u64, &mut Area)> {
        let (&start, area) = self.areas.range_mut(..=addr).next_back()?;
        (addr < area.end).then_some((start, area))
    }

    /// Maps `area` at `start`; what lay there before is gone (perf does not tell of munmap).
    pub(super) fn map(&mut self, start: u64, mut area: Area) {
        if start >= area.end {
            return;
        }
        if let Some(old) = self.areas.get(&start)
            && (old.end, old.page) == (area.end, area.page)
            && old.backing == area.backing
        {
            // The same again: mprotect, or read from /proc.
            area.object = old.object;
            area.announced = old.announced;
        }
        self.unmap(start, area.end);
        self.areas.insert(start, area);
    }

    fn unmap(&mut self, start: u64, end: u64) {
        if let Some((&at, left)) = self.areas.range_mut(..start).next_back()
            && left.end > start
        {
            let rest = (left.end > end).then(|| left.behind(at, end));
            left.end = start;
            left.announced = false;
            if let Some(rest) = rest {
                self.areas.insert(end, rest);
            }
        }
        let inside: Vec<u64> = self.areas.range(start..end).map(|(&at, _)| at).collect();
        for at in inside {
            if let Some(area) = self.areas.remove(&at)
                && area.end > end
            {
                self.areas.insert(end, area.behind(at, end));
            }
        }
    }

    /// As a child has it after fork: the same files, memory of its own, nothing announced.
    pub(super) fn forked(&self) -> Space {
        let mut child = self.clone();
        for area in child.areas.values_mut() {
            area.announced = false;
            if matches!(area.backing, Backing::Own(_)) {
                area.object = None;
            }
        }
        child
    }

    /// What /proc/PID/maps says now, in place of what was believed.
    pub(super) fn replace(&mut self, lines: impl IntoIterator<Item = MapsLine>, kinds: &Kinds) {
        let mut old = std::mem::take(self);
        for line in lines {
            let (start, mut area) = Area::of_maps(line, kinds);
            // Generations are told by perf alone.
            if let Some((at, known)) = old.at(start)
                && known.page + ((start - at) >> PAGE_SHIFT) == area.page
                && known.backing.is_same_file(&area.backing)
            {
                area.backing = known.backing.clone();
                area.object = known.object;
                area.announced = known.announced && (at, known.end) == (start, area.end);
            }
            self.map(start, area);
        }
    }
}

impl Backing {
    /// The same as far as both know.
    fn is_same_file(&self, other: &Backing) -> bool {
        match (self, other) {
            (Backing::File(a), Backing::File(b)) => {
                let generation = a.generation.is_none()
                    || b.generation.is_none()
                    || a.generation == b.generation;
                (a.dev, a.ino) == (b.dev, b.ino) && generation
            }
            (Backing::Own(a), Backing::Own(b)) => a == b,
            (Backing::File(_), Backing::Own(_)) | (Backing::Own(_), Backing::File(_)) => false,
        }
    }
}

impl Area {
    /// The part from address `from` on of a mapping that begins at `at`.
    fn behind(&self, at: u64, from: u64) -> Area {
        Area {
            page: self.page + ((from - at) >> PAGE_SHIFT),
            announced: false,
            ..self.clone()
        }
    }

    /// What perf says of a mapping.
    pub(super) fn of_event(map: &Map, kinds: &Kinds) -> Area {
        let prot = |bit: i32| map.prot & bit as u32 != 0;
        let flag = |bit: i32| map.flags & bit as u32 != 0;
        let generation = Some(map.generation as u32);
        let backing = backing(
            &map.name,
            (map.dev_major, map.dev_minor),
            map.ino,
            generation,
            flag(libc::MAP_HUGETLB),
            kinds,
        );
        Area {
            end: map.start.saturating_add(map.len),
            page: page(&backing, map.start, map.offset),
            backing,
            read: prot(libc::PROT_READ),
            write: prot(libc::PROT_WRITE),
            exec: prot(libc::PROT_EXEC),
            shared: flag(libc::MAP_SHARED),
            object: None,
            announced: false,
        }
    }

    fn of_maps(line: MapsLine, kinds: &Kinds) -> (u64, Area) {
        let backing = backing(&line.name, line.dev, line.ino, None, false, kinds);
        let area = Area {
            end: line.end,
            page: page(&backing, line.start, line.offset),
            backing,
            read: line.read,
            write: line.write,
            exec: line.exec,
            shared: line.shared,
            object: None,
            announced: false,
        };
        (line.start, area)
    }
}

fn page(backing: &Backing, start: u64, offset: u64) -> u64 {
    match backing {
        Backing::File(_) => offset >> PAGE_SHIFT,
        Backing::Own(_) => start >> PAGE_SHIFT,
    }
}

/// What cannot be told from a mapping's name.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// Devices of hugetlbfs mounts.
    pub(super) hugetlb: Vec<(u32, u32)>,
}

/// By the name, as the module does it (kmod/paths.c): shared anonymous memory, memfd and SysV segments have inodes of
/// the kernel's own mount, without a name anywhere, and are no deleted files.
fn backing(
    name: &str,
    dev: (u32, u32),
    ino: u64,
    generation: Option<u32>,
    hugetlb: bool,
    kinds: &Kinds,
) -> Backing {
    use ObjectKind::{Anon, File, Heap, Hugetlb, Other, Shmem, Stack, Vdso};
    if ino == 0 {
        return Backing::Own(match name {
            "[heap]" => Heap,
            "[stack]" => Stack,
            "[vdso]" => Vdso,
            "" | "//anon" => Anon,
            _ if name.starts_with("[anon:") => Anon,
            _ => Other,
        });
    }
    let (path, deleted) = match name.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (name, false),
    };
    let kind = match path {
        _ if hugetlb || kinds.hugetlb.contains(&dev) || path == "/anon_hugepage" => Hugetlb,
        "/dev/zero" if deleted => Shmem,
        _ if deleted && (path.starts_with("/memfd:") || path.starts_with("/SYSV")) => Shmem,
        _ if name.starts_with("[anon_shmem:") => Shmem,
        _ if !path.starts_with('/')
            || (path.starts_with("/dev/") && !path.starts_with("/dev/shm/")) =>
        {
            Other
        }
        _ => File,
    };
    Backing::File(Rc::new(FileBacking {
        dev,
        ino,
        generation,
        kind,
        path: path.into(),
        deleted: deleted && kind == File,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn area(end: u64, page: u64, ino: u64) -> Area {
        let name = if ino == 0 { "//anon" } else { "/f" };
        Area {
            end,
            page,
            backing: backing(name, (8, 1), ino, Some(1), false, &Kinds::default()),
            read: true,
            write: true,
            exec: false,
            shared: false,
            object: None,
            announced: false,
        }
    }

    proptest! {
        /// Against a table of single pages.
        #[test]
        fn the_latest_mapping_of_a_page_counts(maps in vec((0u64..40, 1u64..20, 0u64..4, 0u64..100), 0..30)) {
            let mut space = Space::default();
            let mut pages = [None; 64];
            for (start, len, ino, offset) in maps {
                let first = if ino == 0 { start } else { offset };
                space.map(start << 12, area((start + len) << 12, first, ino));
                for n in 0..len {
                    pages[(start + n) as usize] = Some((ino, first + n));
                }
            }
            for (n, want) in pages.iter().enumerate() {
                let addr = ((n as u64) << 12) + 77;
                let found = space.at(addr).map(|(at, area)| {
                    let ino = match &area.backing {
                        Backing::File(file) => file.ino,
                        Backing::Own(_) => 0,
                    };
                    (ino, area.page + ((addr - at) >> 12))
                });
                prop_assert_eq!(found, *want);
            }
            let mut end = 0;
            for (start, area) in &space.areas {
                prop_assert!(*start >= end && area.end > *start);
                end = area.end;
            }
        }
    }

    #[test]
    fn names_say_what_it_is() {
        let kinds = Kinds {
            hugetlb: vec![(0, 30)],
        };
        let told = |name, dev, ino| match backing(name, dev, ino, None, false, &kinds) {
            Backing::Own(kind) => format!("{kind}"),
            Backing::File(f) => format!(
                "{} {}{}",
                f.kind,
                f.path,
                if f.deleted { " gone" } else { "" }
            ),
        };
        for (name, dev, ino, want) in [
            ("//anon", (0, 0), 0, "anon"),
            ("", (0, 0), 0, "anon"),
            ("[anon:arena]", (0, 0), 0, "anon"),
            ("[heap]", (0, 0), 0, "heap"),
            ("[stack]", (0, 0), 0, "stack"),
            ("[vdso]", (0, 0), 0, "vdso"),
            ("[vvar]", (0, 0), 0, "other"),
            ("/lib/x.so", (8, 1), 7, "file /lib/x.so"),
            ("/tmp/a b (deleted)", (8, 1), 7, "file /tmp/a b gone"),
            ("/dev/zero (deleted)", (0, 1), 7, "shmem /dev/zero"),
            ("/memfd:x (deleted)", (0, 1), 7, "shmem /memfd:x"),
            ("/SYSV00000000 (deleted)", (0, 1), 7, "shmem /SYSV00000000"),
            ("/dev/shm/x", (0, 25), 7, "file /dev/shm/x"),
            ("/dev/dri/card0", (0, 5), 7, "other /dev/dri/card0"),
            (
                "anon_inode:[perf_event]",
                (0, 14),
                7,
                "other anon_inode:[perf_event]",
            ),
            (
                "/anon_hugepage (deleted)",
                (0, 15),
                7,
                "hugetlb /anon_hugepage",
            ),
            ("/huge/x", (0, 30), 7, "hugetlb /huge/x"),
        ] {
            assert_eq!(told(name, dev, ino), want, "{name}");
        }
    }

    #[test]
    fn what_proc_says_keeps_numbers_and_generations() {
        let kinds = Kinds::default();
        let mut space = Space::default();
        let mut known = area(0x3000, 5, 9);
        (known.object, known.announced) = (Some(4), true);
        space.map(0x1000, known.clone());
        space.map(0x8000, area(0x9000, 0, 10));
        let lines = "1000-3000 rw-p 00005000 08:01 9 /f\n3000-4000 rw-p 00007000 08:01 9 /f\n5000-6000 r--p 0 00:00 0\n";
        space.replace(lines.lines().filter_map(MapsLine::parse), &kinds);
        assert_eq!(space.at(0x1fff).unwrap(), (0x1000, &mut known));
        assert_eq!(space.at(0x3fff).unwrap().1.object, None);
        assert!(matches!(
            space.at(0x5000).unwrap().1.backing,
            Backing::Own(ObjectKind::Anon)
        ));
        assert_eq!(space.at(0x8000), None, "it is not mapped any more");
    }
}
