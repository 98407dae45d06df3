//! Numbers as people type them: sizes and times with units.

use std::time::Duration;

/// Why a text is no size or time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found \"{found}\"")]
pub struct UnitError {
    expected: &'static str,
    found: String,
}

/// Bytes: `4096`, `64K`, `256MiB`, `1.5GB`. K, M, G, T and KiB.. are powers of 1024, kB, MB, GB, TB powers of 1000.
///
/// # Errors
/// The text is no number, its unit is unknown, or it does not fit.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let expected = "a size like 4096, 64K, 256MiB or 1.5GB";
    scaled(text, expected, |unit| {
        Some(match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        })
    })
    .map(|bytes| bytes as u64)
}

/// Time: `500ms`, `60s`, `1.5m`, `2h`; a bare number is seconds.
///
/// # Errors
/// The text is no number, its unit is unknown, or it does not fit.
pub fn time(text: &str) -> Result<Duration, UnitError> {
    let expected = "a time like 500ms, 60s, 5m or 1h";
    scaled(text, expected, |unit| {
        Some(match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        })
    })
    .map(Duration::from_secs_f64)
}

/// Period in whole milliseconds: as [`time`], but a bare number is milliseconds and `off` is 0.
///
/// # Errors
/// As for [`time`]; also when it rounds to 0 without being 0, or exceeds 32 bits.
pub fn period_ms(text: &str) -> Result<u32, UnitError> {
    let expected = "a period like 500ms or 1s, or off";
    let bad = || UnitError {
        expected,
        found: text.to_string(),
    };
    if text == "off" {
        return Ok(0);
    }
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time = time(text).map_err(|_| bad())?;
    let ms = u32::try_from(time.as_millis()).map_err(|_| bad())?;
    if ms == 0 && !time.is_zero() {
        return Err(bad());
    }
    Ok(ms)
}

fn scaled(
    text: &str,
    expected: &'static str,
    factor: impl Fn(&str) -> Option<f64>,
) -> Result<f64, UnitError> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    // 2^53: what a float still counts exactly, and more than any disk or recording.
    number
        .parse::<f64>()
        .ok()
        .zip(factor(unit.trim()))
        .map(|(number, factor)| number * factor)
        .filter(|&value| value <= 9_007_199_254_740_992.0)
        .ok_or_else(|| UnitError {
            expected,
            found: text.to_string(),
        })
}

/// Bytes as [`size`] reads them, exactly: `2GiB`, `1000`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
    {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// A time as [`time`] reads it, to the ms: `60s`, `1500ms`.
#[must_use]
pub fn time_text(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Bytes for people: `1.5 GB`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 || unit == "TB" {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{bytes} B")
}

/// Bytes for people, in powers of 1024, for what was told so (`--memory 1GiB`): `1.5 GiB`.
#[must_use]
pub fn show_binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{bytes} B")
}

/// A count for people: `1,234,567`.
#[must_use]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65_536),
            ("64 KiB", 65_536),
            ("256MiB", 268_435_456),
            ("1.5GB", 1_500_000_000),
            ("1kB", 1000),
            ("2T", 2_199_023_255_552),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1X", "1e3", "1..2", "9999999T", "ten"] {
            let error = size(text).map(|_| ()).map_err(|e| e.to_string());
            let wanted =
                format!("expected a size like 4096, 64K, 256MiB or 1.5GB, found \"{text}\"");
            assert_eq!(error, Err(wanted));
        }
    }

    #[test]
    fn times() {
        for (text, ms) in [
            ("500ms", 500),
            ("60s", 60_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("3", 3000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(time("5 parsecs").is_err());
        for (text, ms) in [
            ("off", 0),
            ("0", 0),
            ("250", 250),
            ("500ms", 500),
            ("1s", 1000),
        ] {
            assert_eq!(period_ms(text), Ok(ms), "{text}");
        }
        for text in ["1us", "99d", "on", "-5"] {
            assert!(period_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_out_reads_back() {
        for bytes in [0, 1, 1000, 1024, 3 << 20, 2 << 30, (2 << 30) + 1, 1 << 44] {
            assert_eq!(size(&bytes_text(bytes)), Ok(bytes));
        }
        assert_eq!(bytes_text(2 << 30), "2GiB");
        for ms in [1, 999, 1000, 1500, 60_000] {
            let t = Duration::from_millis(ms);
            assert_eq!(time(&time_text(t)), Ok(t));
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_bytes(999), "999 B");
        assert_eq!(show_bytes(1_500_000_000), "1.5 GB");
        assert_eq!(show_binary(1023), "1023 B");
        assert_eq!(show_binary(1536), "1.5 KiB");
        assert_eq!(show_binary(1 << 40), "1.0 TiB");
    }
}
