//! Where memory comes from, and how soon it goes back to the system.
#![allow(
    unsafe_code,
    reason = "options of the allocator, which only its C functions set"
)]

use std::ffi::{c_int, c_long};

use libmimalloc_sys::mi_option_set;
use pgtrace_capture::without_huge_pages;

/// Batches come and go on every thread: what they took goes back to the system, which the C library's allocator is slow to do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h: for how long freed memory stays with the process, in ms. The crate does not name it.
const PURGE_DELAY: c_int = 15;

/// From here on memory is not scarce: what the allocator keeps (250 MB in bad cases) is little beside it, and questions
/// are up to 15 % faster for it.
const PLENTY: usize = 512 << 20;

/// Where it is scarce, freed memory stays for so long.
const SHORT_MS: c_long = 10;

/// The process is to get by with so much, and not much more. To be called before work begins.
pub(crate) fn limit(memory: usize) {
    if memory < PLENTY {
        without_huge_pages();
        // SAFETY: takes plain numbers; it may be called at any time.
        unsafe { mi_option_set(PURGE_DELAY, SHORT_MS) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use libmimalloc_sys::mi_option_get;

    use super::PURGE_DELAY;

    /// The allocator reads its environment by name, so a number that means something else now is found out.
    #[test]
    fn the_option_is_the_purge_delay() {
        if std::env::var("MIMALLOC_PURGE_DELAY").is_ok_and(|set| set == "4711") {
            // SAFETY: takes and returns plain numbers.
            assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 4711);
            return;
        }
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "allocator::tests::the_option_is_the_purge_delay"])
            .env("MIMALLOC_PURGE_DELAY", "4711")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}
