//! Checks of single values, each with what was expected and what was found.

use std::time::Duration;

use crate::recorder::KeepLast;
use crate::units;

/// What the module takes as a FIFO's length, in pages.
const FIFO: std::ops::RangeInclusive<u32> = 16..=1 << 20;
/// The shortest `--buffer`, in bytes: four pages in each of a few sub-buffers.
const MIN_BUFFER: u64 = 64 << 10;
/// Where cgroup v2 is mounted as a rule.
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) fn size(text: &str) -> Result<u64, String> {
    units::size(text).map_err(|e| e.to_string())
}

pub(super) fn rotate_size(text: &str) -> Result<u64, String> {
    at_least(text, 4096, "4KiB")
}

pub(super) fn buffer(text: &str) -> Result<u64, String> {
    at_least(text, MIN_BUFFER, "64KiB")
}

fn at_least(text: &str, least: u64, shown: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes >= least => Ok(bytes),
        _ => Err(format!("expected at least {shown}, found \"{text}\"")),
    }
}

pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match units::time(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        Ok(_) => Err(format!("expected more than nothing, found \"{text}\"")),
        Err(e) => Err(e.to_string()),
    }
}

/// A size or a time: the unit decides, so there has to be one.
pub(super) fn keep_last(text: &str) -> Result<KeepLast, String> {
    let bad = || {
        format!("expected a size like 512MiB or 2GiB, or a time like 60s or 5m, found \"{text}\"")
    };
    if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(bad());
    }
    // Times first: "5m" is five minutes, "5M" is a size.
    match (units::time(text), units::size(text)) {
        (Ok(time), _) if !time.is_zero() => Ok(KeepLast::Time(time)),
        (Err(_), Ok(bytes)) if bytes > 0 => Ok(KeepLast::Bytes(bytes)),
        _ => Err(bad()),
    }
}

pub(super) fn fifo(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| FIFO.contains(n))
        .ok_or_else(|| {
            format!(
                "expected a number of pages from {} to {}, found \"{text}\"",
                FIFO.start(),
                FIFO.end()
            )
        })
}

pub(super) fn fifo_or_off(text: &str) -> Result<u32, String> {
    match text {
        "off" => Ok(0),
        _ => fifo(text).map_err(|e| e.replace(", found", ", or off, found")),
    }
}

/// A command name as the kernel keeps it.
pub(super) fn comm(text: &str) -> Result<String, String> {
    let fits = (1..16).contains(&text.len()) && text.trim() == text;
    if !fits || text.contains(char::is_control) {
        return Err(format!(
            "expected a name as /proc/PID/comm gives it, 1 to 15 bytes, found \"{}\"",
            text.escape_debug()
        ));
    }
    Ok(text.into())
}

/// A path below the root of cgroup v2; one below its usual mount point is understood.
pub(super) fn cgroup(text: &str) -> Result<String, String> {
    let path = match text.strip_prefix(CGROUPS) {
        Some("") => "/",
        Some(below) if below.starts_with('/') => below,
        Some(_) | None => text,
    };
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    if !path.starts_with('/') || path.contains(char::is_control) || path.len() > 4000 {
        return Err(format!(
            "expected a path below the root of cgroup v2 like /user.slice, found \"{}\"",
            text.escape_debug()
        ));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_last_is_a_size_or_a_time() {
        let seconds = |s| Ok(KeepLast::Time(Duration::from_secs(s)));
        for (text, wanted) in [
            ("2GiB", Ok(KeepLast::Bytes(2 << 30))),
            ("5M", Ok(KeepLast::Bytes(5 << 20))),
            ("100kB", Ok(KeepLast::Bytes(100_000))),
            ("60s", seconds(60)),
            ("5m", seconds(300)),
            ("1h", seconds(3600)),
        ] {
            assert_eq!(keep_last(text), wanted, "{text}");
        }
        for text in ["", "5", "0s", "0B", "1.", "5x", "s", "-1s"] {
            assert!(keep_last(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_cgroups() {
        assert_eq!(comm("Web Content"), Ok("Web Content".into()));
        for text in ["", "sixteen bytes ok", " x", "a\nb"] {
            assert!(comm(text).is_err(), "{text}");
        }
        for (text, path) in [
            ("/", "/"),
            ("/user.slice", "/user.slice"),
            ("/user.slice/", "/user.slice"),
            ("/sys/fs/cgroup", "/"),
            (
                "/sys/fs/cgroup/system.slice/db.service",
                "/system.slice/db.service",
            ),
            ("/sys/fs/cgroups", "/sys/fs/cgroups"),
        ] {
            assert_eq!(cgroup(text), Ok(path.into()), "{text}");
        }
        assert!(cgroup("user.slice").is_err() && cgroup("/a\nb").is_err());
    }

    #[test]
    fn fifos() {
        assert_eq!((fifo("16"), fifo("1048576")), (Ok(16), Ok(1 << 20)));
        assert_eq!(fifo_or_off("off"), Ok(0));
        for text in ["15", "1048577", "-1", "many", "off", "0"] {
            assert!(fifo(text).is_err(), "{text}");
        }
    }
}
