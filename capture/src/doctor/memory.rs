//! What of the machine's memory management shows in a trace, and the disk.

use std::path::Path;

use super::{Check, System};
use crate::sys;
use crate::units::show_bytes;

/// Less on a disk is little, in bytes: the recorder ends at a quarter of it.
const LITTLE: u64 = 1 << 30;

pub(super) fn checks(system: &System) -> Vec<Check> {
    let perhaps = [
        numa(system),
        fault_around(system),
        swap(system),
        huge_pages(system),
    ];
    perhaps.into_iter().flatten().collect()
}

fn numa(system: &System) -> Option<Check> {
    const WHAT: &str = "NUMA";
    let nodes = system.text("/sys/devices/system/node/online")?;
    if !nodes.contains(['-', ',']) {
        return Some(Check::ok(WHAT, "one node"));
    }
    let found = format!("nodes {nodes}");
    let balancing = system
        .text("/proc/sys/kernel/numa_balancing")
        .unwrap_or_else(|| "0".into());
    Some(if balancing == "0" {
        Check::warning(
            WHAT,
            found,
            "pages that are made to fault again may be moved to the node that touches them, which costs time",
            "numactl --cpunodebind=0 --membind=0 your-program",
        )
    } else {
        Check::warning(
            WHAT,
            format!("{found}, kernel.numa_balancing is {balancing}"),
            "the kernel makes pages fault by itself, which cannot be told from the module's doing, and moves them",
            "sysctl kernel.numa_balancing=0",
        )
    })
}

fn fault_around(system: &System) -> Option<Check> {
    let path = "/sys/kernel/debug/fault_around_bytes";
    let bytes: u64 = system.text(path)?.parse().ok()?;
    let found = format!("{bytes} bytes");
    let check = Check::ok("fault-around", found);
    Some(if bytes > 4096 {
        check.with(
            "the first touches of a file page's neighbours are told as a range (mark around), not one by one",
            format!("echo 4096 > {path}"),
        )
    } else {
        check
    })
}

fn swap(system: &System) -> Option<Check> {
    let text = system.text("/proc/swaps")?;
    Some(match text.lines().skip(1).count() {
        0 => Check::ok("swap", "none"),
        n => Check::ok("swap", format!("{n} in use")).with(
            "pages that were swapped out come back as major faults",
            "swapoff -a",
        ),
    })
}

fn huge_pages(system: &System) -> Option<Check> {
    let text = system.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let mode = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    let check = Check::ok("transparent huge pages", mode);
    Some(match mode {
        "never" => check,
        _ => check.with(
            "they are split in traced processes, so that each base page is seen, which costs some time",
            "pgtrace-capture record --grain 2m",
        ),
    })
}

/// The room for chunks.
pub(super) fn disk(output: &Path) -> Check {
    const WHAT: &str = "disk";
    let path = std::path::absolute(output).unwrap_or_else(|_| output.to_path_buf());
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(&path);
    match sys::disk_space(there) {
        Ok(space) => {
            let found = format!(
                "{} has {} left of {}",
                there.display(),
                show_bytes(space.free),
                show_bytes(space.total)
            );
            if space.free >= LITTLE {
                Check::ok(WHAT, found)
            } else {
                let why = "a recording ends by itself before it is full";
                let mend =
                    "make room, or keep only the newest: record --keep-last SIZE --min-free SIZE";
                Check::warning(WHAT, found, why, mend)
            }
        }
        Err(e) => Check::problem(
            WHAT,
            format!("{}: {e}", there.display()),
            "chunks are written there",
            "give another --output",
        ),
    }
}
