//! Quantities and thresholds as people write them in the kubelet's configuration.
//!
//! Sources: Kubernetes resource.Quantity (apimachinery pkg/api/resource); kubelet pkg/kubelet/eviction/helpers.go.

/// A Kubernetes quantity in thousandths: `100m` is 100, `1.5Gi`, `2e3`, `64M`. `None` when it is none, negative, or
/// larger than anything that exists.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor: u128 = match unit {
        "" => 1000,
        "m" => 1,
        "k" => 10u128.pow(6),
        "M" => 10u128.pow(9),
        "G" => 10u128.pow(12),
        "T" => 10u128.pow(15),
        "P" => 10u128.pow(18),
        "E" => 10u128.pow(21),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        _ => {
            let exponent = unit.strip_prefix(['e', 'E'])?;
            1000u128.checked_mul(10u128.checked_pow(exponent.parse().ok().filter(|&e: &u32| e < 19)?)?)?
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let digits = part.get(..9).unwrap_or(part);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part: u128 = format!("{digits:0<9}").parse().ok()?;
    let sum = whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / 1_000_000_000)?;
    u64::try_from(sum).ok()
}

/// A quantity in whole units, rounded down: bytes of `1Gi`.
pub(super) fn whole(text: &str) -> Option<u64> {
    thousandths(text).map(|parts| parts / 1000)
}

/// Below what the kubelet evicts: `5%` of the capacity, or a quantity. `None` for what is neither, and for `0%` and
/// `100%`, which switch a threshold off.
pub(super) fn threshold(text: &str, capacity: u64) -> Option<u64> {
    let Some(percent) = text.trim().strip_suffix('%') else { return whole(text) };
    let parts = thousandths(percent).filter(|&parts| parts > 0 && parts < 100_000)?;
    u64::try_from(u128::from(capacity) * u128::from(parts) / 100_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, parts) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1.5Ki", Some(1_536_000)),
            ("64M", Some(64_000_000_000)),
            ("1Gi", Some(1000 << 30)),
            ("2e3", Some(2_000_000)),
            ("1E", None),
            ("1e99", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("1Zi", None),
            ("Gi", None),
        ] {
            assert_eq!(thousandths(text), parts, "{text}");
        }
        assert_eq!(whole("1.5Ki"), Some(1536));
    }

    #[test]
    fn thresholds() {
        assert_eq!(threshold("10%", 1000), Some(100));
        assert_eq!(threshold("2.5%", 1000), Some(25));
        assert_eq!(threshold("1Ki", 10), Some(1024));
        for off in ["0%", "100%", "%", "x", "-5%"] {
            assert_eq!(threshold(off, 1000), None, "{off}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_nothing_panics(text in "\\PC{0,20}|[0-9.]{0,25}[eEkKmMGTPi]{0,3}[0-9]{0,3}%?", of: u64) {
            let _ = thousandths(&text);
            let _ = threshold(&text, of);
        }
    }
}
