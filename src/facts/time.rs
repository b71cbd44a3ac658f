//! Times as the documents carry them: RFC 3339, UTC, whole seconds.

/// `2026-11-23T17:05:38Z` of seconds since 1970.
///
/// Source: the days-to-civil arithmetic of the proleptic Gregorian calendar, in eras of 400 years.
pub fn rfc3339(unix_seconds: i64) -> String {
    let days = unix_seconds.div_euclid(86_400);
    let second = unix_seconds.rem_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A duration in milliseconds to the microsecond: what is measured means no more.
#[expect(clippy::cast_precision_loss, reason = "285 years of microseconds are exact")]
pub fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Seconds since 1970 of an RFC 3339 time; fractions are dropped, an offset is applied.
pub fn unix_seconds(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let number = |part: Option<&str>| -> Option<i64> {
        part.filter(|p| !p.is_empty() && p.len() <= 4 && p.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next())?, number(date.next())?, number(date.next())?);
    let end = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = (rest.get(..end)?, rest.get(end..)?);
    let mut clock = clock.split('.').next()?.split(':');
    let (hour, minute, second) = (number(clock.next())?, number(clock.next())?, number(clock.next())?);
    let offset = match zone.get(..1)? {
        sign @ ("+" | "-") => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = number(Some(hours))? * 3600 + number(Some(minutes))? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => 0,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Nanoseconds since 1970 of an RFC 3339 time.
pub fn unix_nanoseconds(time: &str) -> Option<i64> {
    let seconds = unix_seconds(time)?;
    let digits = time.split_once('.').map_or("", |(_, rest)| rest);
    let mut fraction = 0i64;
    let mut scale = 100_000_000i64;
    for digit in digits.bytes().take_while(u8::is_ascii_digit).take(9) {
        fraction += i64::from(digit - b'0') * scale;
        scale /= 10;
    }
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Seconds since 1970 of a local time: year, month and day from 1; hour, minute, second. `None` for one that does not
/// exist.
pub fn local_seconds(date: (i32, i32, i32), clock: (i32, i32, i32)) -> Option<i64> {
    let month = date.1.checked_sub(1)?;
    // SAFETY: tm is plain numbers (and a pointer that mktime ignores); all zero is a valid one.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    (tm.tm_year, tm.tm_mon, tm.tm_mday) = (date.0.checked_sub(1900)?, month, date.2);
    (tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_isdst) = (clock.0, clock.1, clock.2, -1);
    // SAFETY: tm lives across the call, which writes only to it.
    let seconds = unsafe { libc::mktime(&raw mut tm) };
    // It makes March of the 30th of February.
    (seconds != -1 && (tm.tm_mon, tm.tm_mday) == (month, date.2)).then_some(seconds)
}

/// Year, month and day, from 1, of the local time at that moment (seconds since 1970).
pub fn local_date(unix_seconds: i64) -> Option<(i32, i32, i32)> {
    // SAFETY: as in [`local_seconds`].
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both live across the call, which reads the one and writes to the other.
    let done = unsafe { libc::localtime_r(&raw const unix_seconds, &raw mut tm) };
    (!done.is_null()).then(|| (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_to_the_microsecond() {
        assert_eq!(milliseconds(std::time::Duration::from_nanos(319_002_949)).to_string(), "319.002");
    }

    #[test]
    fn known_moments_go_both_ways() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_453_424, "2026-11-23T17:03:44Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(unix_seconds(text), Some(seconds));
        }
        assert_eq!(unix_seconds("2026-11-23T17:05:38.612877488Z"), unix_seconds("2026-11-23T18:05:38+01:00"));
    }

    #[test]
    fn local_times_go_both_ways() {
        let noon = local_seconds((2026, 11, 25), (12, 0, 0)).unwrap();
        assert_eq!(local_date(noon), Some((2026, 11, 25)));
        assert!((noon - unix_seconds("2026-11-25T12:00:00Z").unwrap()).abs() <= 14 * 3600);
        for date in [(2026, 2, 30), (2026, 13, 1), (2026, 0, 1), (2026, 1, 0), (i32::MIN, 1, 1)] {
            assert_eq!(local_seconds(date, (12, 0, 0)), None, "{date:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "T",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2026-11-23T17:05:38",
            "x-y-zTa:b:cZ",
            "é-1-1T1:1:1Z",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }
}
