//! The commands, a file each.

pub(crate) mod compact;
pub(crate) mod doctor;
pub(crate) mod ingest;
pub(crate) mod inspect;
pub(crate) mod verify;

use std::io::ErrorKind;

/// Whoever reads has seen enough: no error.
fn unless_closed<T: Default>(result: std::io::Result<T>) -> std::io::Result<T> {
    match result {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(T::default()),
        other => other,
    }
}
