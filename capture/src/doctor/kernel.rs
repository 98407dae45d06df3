//! The kernel: what it is, how it was built, whether its perf events are to be had.

use std::fs::File;
use std::process::{Command, Stdio};

use super::{Check, System};
use crate::recorder::perf;

/// What the module needs, and for what.
const NEEDED: [(&str, &str); 6] = [
    ("RELAY", "the buffers"),
    ("DEBUG_FS", "the module's files"),
    ("KPROBES", "hooks"),
    ("FUNCTION_TRACER", "the fault hook"),
    ("TRACEPOINTS", "hooks"),
    ("NUMA_BALANCING", "the repair of cleaned page-table entries"),
];
/// Kernels the module is tested on: the first and the last, as (major, minor).
const TESTED: [(u32, u32); 2] = [(6, 1), (6, 12)];

pub(super) fn architecture(system: &System) -> Check {
    let told = system.text("/proc/sys/kernel/arch");
    let arch = told.unwrap_or_else(|| std::env::consts::ARCH.into());
    if arch == "x86_64" {
        Check::ok("architecture", arch)
    } else {
        let why = "the module knows the page tables of x86_64 only";
        Check::problem(
            "architecture",
            arch,
            why,
            "pgtrace-capture record --source perf",
        )
    }
}

pub(super) fn release(system: &System, loaded: bool) -> Check {
    let release = system.release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let version = number().zip(number());
    match version {
        Some(version) if (TESTED[0]..=TESTED[1]).contains(&version) => Check::ok("kernel", release),
        Some(_) | None => {
            let why = if loaded {
                "the module is tested on 6.1 and 6.12; it was loaded, but watch the kernel's log"
            } else {
                "the module is tested on 6.1 and 6.12, and may not build or load here"
            };
            Check::warning("kernel", release, why, "use a kernel from 6.1 to 6.12")
        }
    }
}

pub(super) fn config(system: &System, loaded: bool) -> Check {
    const WHAT: &str = "kernel config";
    let Some((from, text)) = config_text(system) else {
        let found = "neither /boot/config-* of this kernel nor /proc/config.gz can be read";
        return if loaded {
            Check::ok(WHAT, format!("{found}, but the module is loaded"))
        } else {
            let why = "whether the module can be loaded is not known";
            Check::warning(WHAT, found, why, "modprobe pgtrace && dmesg | tail")
        };
    };
    let is_set = |name: &str| {
        let set = |value| {
            text.lines()
                .any(|line| line == format!("CONFIG_{name}={value}"))
        };
        set("y") || set("m")
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(name, _)| !is_set(name))
        .map(|(name, what)| format!("CONFIG_{name} ({what})"))
        .collect();
    if missing.is_empty() {
        Check::ok(WHAT, format!("{from} has all that is needed"))
    } else {
        let found = format!("{from} lacks {}", missing.join(", "));
        let why = "the module cannot work without";
        Check::problem(
            WHAT,
            found,
            why,
            "use a distribution's kernel, or build it with these options",
        )
    }
}

fn config_text(system: &System) -> Option<(String, String)> {
    let boot = format!("/boot/config-{}", system.release());
    if let Some(text) = system.text(&boot) {
        return Some((boot, text));
    }
    // A program that every system with such a kernel has; a library for this one file would be much.
    let packed = File::open(system.path("/proc/config.gz")).ok()?;
    let unpacked = Command::new("gzip")
        .arg("-dc")
        .stdin(packed)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(unpacked.stdout).ok()?;
    (unpacked.status.success()).then(|| ("/proc/config.gz".into(), text))
}

/// Whether `--source perf` would work.
pub(super) fn perf(system: &System) -> Check {
    const WHAT: &str = "perf events";
    let Some(paranoid) = system.text("/proc/sys/kernel/perf_event_paranoid") else {
        let why = "--source perf needs them";
        let mend = "use a kernel with CONFIG_PERF_EVENTS";
        return Check::problem(WHAT, "this kernel has none", why, mend);
    };
    let found = format!("kernel.perf_event_paranoid is {paranoid}");
    if system.is_real() {
        // Containers refuse them by a filter that no file tells of.
        return match perf::try_own() {
            Ok(true) => Check::ok(WHAT, found),
            Ok(false) => Check::ok(WHAT, found).with(
                "faults of the kernel on a program's behalf are not seen",
                "sysctl kernel.perf_event_paranoid=1, or run as root",
            ),
            Err(e) => {
                let why = "--source perf needs them";
                Check::problem(
                    WHAT,
                    e.to_string(),
                    why,
                    "sysctl kernel.perf_event_paranoid=2",
                )
            }
        };
    }
    match paranoid.parse::<i32>() {
        Ok(..=2) => Check::ok(WHAT, found),
        Ok(_) | Err(_) => Check::problem(
            WHAT,
            found,
            "--source perf works for root only",
            "sysctl kernel.perf_event_paranoid=2",
        ),
    }
}
