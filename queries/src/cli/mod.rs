//! The commands, a file each.

pub(crate) mod derive;
pub(crate) mod export;
pub(crate) mod query;

use pgtrace_capture::units;

/// An amount of memory as people type it.
fn memory(text: &str) -> Result<usize, String> {
    match usize::try_from(units::size(text).map_err(|e| e.to_string())?) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{text:?} is no amount of memory to work with")),
    }
}
