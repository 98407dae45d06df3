//! Sizes as people type them: `1GiB`, `512 MB`, `64k`.

const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
];

/// Bytes that `text` stands for: a whole number and an optional unit, in either case. `k`, `M`, `G`, `T` are
/// powers of 1024 like `KiB`; `kB`, `MB`, `GB` are powers of 1000.
///
/// # Errors
/// What is wrong with it and what was expected.
pub fn parse(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_lowercase();
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|&(_, factor)| factor);
    let bytes = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| {
            format!("{text:?} is no size; expected a whole number and a unit, as in 512MiB or 2GiB")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("1", 1),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("2kb", 2000),
            ("3K", 3072),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            "GiB",
            "1.5GiB",
            "-1",
            "0",
            "1 parsec",
            "99999999999999999999",
            "20000000TiB",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
