//! What /proc knows of a process. Everything here may fail at any moment: the process may be gone.

use std::path::Path;

/// One line of /proc/PID/maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapsLine {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) exec: bool,
    pub(super) shared: bool,
    pub(super) offset: u64,
    pub(super) dev: (u32, u32),
    pub(super) ino: u64,
    pub(super) name: String,
}

impl MapsLine {
    /// `None`: no such line.
    pub(super) fn parse(line: &str) -> Option<MapsLine> {
        let mut rest = line;
        let mut word = || {
            let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = tail;
            word
        };
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = word().split_once('-')?;
        let perms = word().as_bytes();
        let offset = hex(word())?;
        let (major, minor) = word().split_once(':')?;
        let ino = word().parse().ok()?;
        let flag = |at: usize, set: u8| perms.get(at) == Some(&set);
        Some(MapsLine {
            start: hex(start)?,
            end: hex(end)?,
            read: flag(0, b'r'),
            write: flag(1, b'w'),
            exec: flag(2, b'x'),
            shared: flag(3, b's'),
            offset,
            dev: (
                u32::from_str_radix(major, 16).ok()?,
                u32::from_str_radix(minor, 16).ok()?,
            ),
            ino,
            // The only character that is written otherwise.
            name: rest.trim_start_matches(' ').replace("\\012", "\n"),
        })
    }
}

/// The mappings of a process; empty when it is gone.
pub(super) fn maps(pid: u32) -> Vec<MapsLine> {
    let bytes = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(MapsLine::parse).collect()
}

/// The threads of a process; empty when it is gone.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Whether there is such a process.
pub(super) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// What a process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) ppid: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Start, in clock ticks since boot.
    pub(super) start_ticks: u64,
    pub(super) comm: String,
}

/// `None` when the process is gone.
pub(super) fn identity(pid: u32) -> Option<Identity> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
    let stat = read("stat")?;
    let (ppid, start_ticks, comm) = stat_fields(&String::from_utf8_lossy(&stat))?;
    let status = read("status")?;
    let status = String::from_utf8_lossy(&status);
    let first = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Identity {
        ppid,
        uid: first("Uid:")?,
        gid: first("Gid:")?,
        start_ticks,
        comm,
    })
}

/// Parent, start and name out of /proc/PID/stat; the name may hold anything, brackets too.
pub(super) fn stat_fields(stat: &str) -> Option<(u32, u64, String)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let comm = head.split_once('(')?.1.to_string();
    let mut fields = tail.split(' ');
    let ppid = fields.nth(1)?.parse().ok()?; // field 4; the tail begins with field 3
    let start = fields.nth(17)?.parse().ok()?; // field 22
    Some((ppid, start, comm))
}

/// Where a link of /proc/PID points to, `exe` or `cwd`.
pub(super) fn link(pid: u32, what: &str) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/{what}")).ok()?;
    let path = path.to_string_lossy();
    Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_string())
}

/// Path in the cgroup v2 tree.
pub(super) fn cgroup(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(line.to_string())
}

/// Devices of the hugetlbfs mounts.
pub(super) fn hugetlb_devices() -> Vec<(u32, u32)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = |line: &str| {
        let (mount, rest) = line.split_once(" - ")?;
        let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
        let is = rest.split(' ').next()? == "hugetlbfs";
        is.then_some((major.parse().ok()?, minor.parse().ok()?))
    };
    text.lines().filter_map(device).collect()
}

/// CPUs that run, from a list like `0-3,8`.
pub(super) fn online_cpus() -> Vec<u16> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let cpus = cpu_list(text.trim());
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn cpu_list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = "7f12-7f15 r-xs 0001a000 fd:1f 42                    /a b\\012c (deleted)";
        let read = MapsLine::parse(line).unwrap();
        assert_eq!(
            (read.start, read.end, read.offset),
            (0x7f12, 0x7f15, 0x1a000)
        );
        assert_eq!(
            (read.read, read.write, read.exec, read.shared),
            (true, false, true, true)
        );
        assert_eq!(
            (read.dev, read.ino, read.name.as_str()),
            ((0xfd, 0x1f), 42, "/a b\nc (deleted)")
        );
        assert_eq!(
            MapsLine::parse("1000-2000 rw-p 00000000 00:00 0 ")
                .unwrap()
                .name,
            ""
        );
        for bad in [
            "",
            "x",
            "1000 rw-p 0 0:0 0",
            "1-2 rw-p 0 00 0",
            "1-2 rw-p 0 0:0 x",
        ] {
            assert_eq!(MapsLine::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "12 (a) b (c)) S 7 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 9876 100 200";
        assert_eq!(stat_fields(stat).unwrap(), (7, 9876, "a) b (c)".into()));
        for bad in ["", "12", "12 (x", "12 (x) S", "12 (x) S 1 2"] {
            assert_eq!(stat_fields(bad), None, "{bad}");
        }
    }

    #[test]
    fn oneself() {
        let me = std::process::id();
        let id = identity(me).unwrap();
        assert_eq!(id.ppid, std::os::unix::process::parent_id());
        assert!(id.start_ticks > 0);
        assert!(threads(me).contains(&me) && exists(me));
        let exe = std::env::current_exe().unwrap();
        assert_eq!(link(me, "exe").unwrap(), exe.to_str().unwrap());
        let code = oneself as fn() as usize as u64;
        let line = maps(me)
            .into_iter()
            .find(|l| (l.start..l.end).contains(&code))
            .unwrap();
        assert!(line.exec && line.name == exe.to_str().unwrap());
        assert_eq!(identity(4_194_305), None);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0"), [0]);
        assert_eq!(cpu_list("0-2,5,8-9"), [0, 1, 2, 5, 8, 9]);
        assert_eq!(cpu_list(""), [0; 0]);
    }
}
