//! Sizes as people write them: `1GiB`, `512M`, `1000000`.

/// Units, longest first so that `MiB` is not read as `B`.
const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("b", 1),
    ("", 1),
];

/// Bytes of a size: a number, whole or with a decimal point, and a unit (`B`,
/// `kB`, `MB`, `GB`, `TB`: powers of 1000; `K`, `M`, `G`, `T` and `KiB`...: of 1024).
///
/// # Errors
/// A sentence that says what was expected and what was found.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as 1GiB, 512M or 1000000, found {text:?}");
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS
        .iter()
        .find(|(name, _)| lower.ends_with(name))
        .ok_or_else(wrong)?;
    let number = lower.strip_suffix(unit.0).unwrap_or(&lower).trim();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain {
        return Err(wrong());
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit.1).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit.1 as f64;
    match bytes < u64::MAX as f64 {
        true => Ok(bytes as u64),
        false => Err(wrong()),
    }
}

/// A size for people: `1.5 GiB`.
pub fn show(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit_name = units.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{bytes} {unit_name}"),
        _ => format!("{value:.1} {unit_name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("1GiB", 1 << 30),
            ("1g", 1 << 30),
            ("1 GB", 1_000_000_000),
            ("1.5 KiB", 1536),
            ("64M", 64 << 20),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "x",
            "-1",
            "1x",
            "GiB",
            "1e9",
            "99999999999T",
            "1..5M",
            ".",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shown() {
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(1536), "1.5 KiB");
        assert_eq!(show(1 << 40), "1.0 TiB");
    }
}
