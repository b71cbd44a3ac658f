//! Values of options: durations and sizes as the contract writes them.

use std::time::Duration;

/// `500ms`, `2s`, `1m`, `1h`; no time at all is too short for anything that takes one.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a duration is a number with a unit: 500ms, 2s, 1m".into()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|n| Duration::try_from_secs_f64(n * scale).ok())
        .filter(|d| !d.is_zero())
        .ok_or_else(|| "a duration is a number above 0 with a unit: 500ms, 2s, 1m".into())
}

/// `1500`, `64k`, `10M`, `1G`: powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a whole number of bytes, or with k, M or G: 64k, 10M, 1G".to_owned();
    let (number, scale) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 1u64 << 10),
        Some((at, 'M')) => (text.get(..at), 1 << 20),
        Some((at, 'G')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1),
    };
    number.and_then(|n| n.parse::<u64>().ok()).and_then(|n| n.checked_mul(scale)).ok_or_else(wrong)
}

/// `512 bytes`, `64.0 KiB`, `1.5 GiB`.
pub(super) fn show_size(bytes: u64) -> String {
    let scaled = [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, unit)) = scaled else { return format!("{bytes} bytes") };
    let tenths = (bytes >> (shift - 4)) * 10 / 16;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["5", "", "s", "0s", "0ms", "-1s", "1e9s", "1..2s", "99999999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (10 << 20, "10.0 MiB"),
            (3 << 29, "1.5 GiB"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("64k"), Ok(65536));
        assert_eq!(size("10M"), Ok(10 << 20));
        assert_eq!(size("1G"), Ok(1 << 30));
        assert_eq!(size("17"), Ok(17));
        for wrong in ["", "k", "1T", "-1", "99999999999999999999", "18446744073709551615k"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
