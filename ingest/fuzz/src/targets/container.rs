//! Chunks written a second time, from the description in `capture/src/chunk/mod.rs` and by none of its code.

/// CRC32C, bit by bit into a table.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc, &byte| {
        TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8
    })
}

pub(super) const MAGIC: &[u8; 4] = b"PGB\x01";
pub(super) const BLOCK_HEADER: usize = 24;
pub(super) const END: u16 = 5;

/// A header: of recording 1, page size 4096, with these settings.
pub(super) fn header(big: bool, cpu: u16, index: u32, settings: &str) -> Vec<u8> {
    let kernel = b"6.1.0";
    let len = (128 + kernel.len() + settings.len() + 4).next_multiple_of(8);
    let mut h = b"PGTRACE\n".to_vec();
    h.extend(1u32.to_le_bytes());
    h.extend((len as u32).to_le_bytes());
    h.extend([1; 16]);
    h.extend([2; 16]);
    h.extend(4096u32.to_le_bytes());
    h.extend([1 + u8::from(big), 1]);
    h.extend(cpu.to_le_bytes());
    h.extend(index.to_le_bytes());
    h.extend([0; 4]);
    for clock in [1000u64, 1_700_000_000_000_000_000, 1000] {
        h.extend(clock.to_le_bytes());
    }
    h.extend((kernel.len() as u16).to_le_bytes());
    h.extend([0; 2]);
    h.extend((settings.len() as u32).to_le_bytes());
    h.resize(128, 0);
    h.extend(kernel);
    h.extend(settings.as_bytes());
    h.resize(len - 4, 0);
    h.extend(crc32c(&[&h]).to_le_bytes());
    h
}

/// A block with its header and padding.
pub(super) fn block(kind: u16, index: u32, payload: &[u8]) -> Vec<u8> {
    let mut b = MAGIC.to_vec();
    b.extend(kind.to_le_bytes());
    b.extend([0; 2]);
    b.extend((payload.len() as u32).to_le_bytes());
    b.extend(index.to_le_bytes());
    let crc = crc32c(&[&b, &[0; 4], payload]);
    b.extend(crc.to_le_bytes());
    b.extend([0; 4]);
    b.extend(payload);
    b.resize(b.len().next_multiple_of(8), 0);
    b
}

/// The block that ends a chunk of `blocks` blocks.
pub(super) fn end(blocks: u32, payload_bytes: u64) -> Vec<u8> {
    let mut payload = u64::from(blocks).to_le_bytes().to_vec();
    payload.extend(payload_bytes.to_le_bytes());
    block(END, blocks, &payload)
}
