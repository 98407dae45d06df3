//! CRC32C (Castagnoli; RFC 3720): the checksum of headers and blocks.

use crc_fast::{CrcAlgorithm, Digest};

/// Checksum of `bytes`.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// Checksum of what `crc` is the checksum of, with `bytes` behind it.
pub(super) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    // The register holds the complement of the checksum.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32 // 32 bits of it are ever set
}
