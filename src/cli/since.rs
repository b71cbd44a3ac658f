//! `--since`: a duration back from now, or a moment, as people type it for journalctl and kubectl.

use super::Context;
use crate::facts::{local_date, local_seconds, rfc3339, unix_seconds};
use std::time::{SystemTime, UNIX_EPOCH};

/// What help texts say of it.
pub(super) const HELP: &str = "\
TIME is a duration back from now (90m, -2h, 1d12h, \"3 days ago\"), or a moment: 2026-11-25T14:03:00Z or with another \
zone, \"2026-11-25 14:03\", 2026-11-25, 14:03 (of today), today, yesterday, @ and seconds since 1970. Without a zone it is \
the local time of where nsprobe runs: a note says which moment that is.";

/// A moment that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since {
    /// Microseconds since 1970.
    pub(super) us: u64,
    /// Whether it was told in local time.
    local: bool,
}

impl Since {
    /// Says which moment a local time was taken for.
    pub(super) fn note(self, context: &Context) {
        if self.local {
            let seconds = i64::try_from(self.us / 1_000_000).unwrap_or(i64::MAX);
            context.note(&format!("note: since {} (what was given is local time)", rfc3339(seconds)));
        }
    }
}

/// The value of the option.
pub(super) fn since(text: &str) -> Result<Since, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse(text, i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

fn parse(text: &str, now_us: i64) -> Result<Since, String> {
    let (us, local) = moment(text.trim(), now_us).ok_or(
        "a time is a duration back from now (90m, -2h, \"3 days ago\"), 14:03, 2026-11-25, \"2026-11-25 14:03\", \
         today, yesterday, @SECONDS or RFC 3339",
    )?;
    if us > now_us {
        return Err(format!(
            "that is {}, and still to come: it is {} now",
            rfc3339(us.div_euclid(1_000_000)),
            rfc3339(now_us.div_euclid(1_000_000))
        ));
    }
    let us = u64::try_from(us).map_err(|_| "that is before 1970".to_owned())?;
    Ok(Since { us, local })
}

/// Microseconds since 1970, and whether it was told in local time.
fn moment(text: &str, now_us: i64) -> Option<(i64, bool)> {
    let now = now_us.div_euclid(1_000_000);
    let seconds = match text {
        "now" => return Some((now_us, false)),
        "today" => local_seconds(local_date(now)?, (0, 0, 0))?,
        "yesterday" => {
            let (year, month, day) = local_date(now)?;
            // Noon of today less a day is yesterday, also where a day has 23 hours or 25.
            let noon = local_seconds((year, month, day), (12, 0, 0))?;
            local_seconds(local_date(noon - 86_400)?, (0, 0, 0))?
        }
        _ => {
            if let Some(seconds) = text.strip_prefix('@') {
                return Some((seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?, false));
            }
            if let Some(back) = duration_us(text) {
                return Some((now_us.checked_sub(back)?, false));
            }
            let (body, utc) = match text.strip_suffix(" UTC") {
                Some(body) => (body, true),
                None => (text, false),
            };
            let (date, clock) = match body.split_once([' ', 'T', 't']) {
                Some((date, clock)) => (Some(date), clock),
                None if body.contains(':') => (None, body),
                None => (Some(body), "00:00"),
            };
            // With a zone of its own: RFC 3339, with or without seconds.
            let zone = clock.find(['Z', 'z', '+', '-']).and_then(|at| clock.split_at_checked(at));
            let (clock, zone) = zone.unwrap_or((clock, if utc { "Z" } else { "" }));
            let clock = clock_of(clock)?;
            if zone.is_empty() {
                local_seconds(date.map_or_else(|| local_date(now), date_of)?, clock)?
            } else {
                let (year, month, day) = date_of(date?)?;
                let (hour, minute, second) = clock;
                let whole =
                    |zone| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}");
                if !zone.eq_ignore_ascii_case("z") && zone.len() != "+01:00".len() {
                    return None;
                }
                // Of a day that does not exist another would be made.
                if rfc3339(unix_seconds(&whole("Z"))?) != whole("Z") {
                    return None;
                }
                return Some((unix_seconds(&whole(zone))?.checked_mul(1_000_000)?, false));
            }
        }
    };
    Some((seconds.checked_mul(1_000_000)?, true))
}

/// `2026-11-25`.
fn date_of(text: &str) -> Option<(i32, i32, i32)> {
    let mut parts = text.split('-');
    let date = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    parts.next().is_none().then_some(date)
}

/// `14:03`, `14:03:05`, `14:03:05.612` (the fraction is dropped).
fn clock_of(text: &str) -> Option<(i32, i32, i32)> {
    let mut parts = text.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().unwrap_or("00");
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let second = number(second, 2)?;
    let plain = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    (plain && hour < 24 && minute < 60 && second < 60 && parts.next().is_none())
        .then_some((hour, minute, second))
}

/// So many digits.
fn number(text: &str, digits: usize) -> Option<i32> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// `2h`, `-2h`, `1d12h`, `3 days ago`, in microseconds.
fn duration_us(text: &str) -> Option<i64> {
    let back = text.strip_prefix('-').or_else(|| text.strip_suffix(" ago"));
    let mut rest = back.unwrap_or(text).trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at(split);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "us" | "usec" => 1e-6,
            "ms" | "msec" => 1e-3,
            "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        seconds += count.parse::<f64>().ok()? * scale;
        rest = after.trim_start();
    }
    let back = std::time::Duration::try_from_secs_f64(seconds).ok().filter(|back| !back.is_zero())?;
    i64::try_from(back.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-25T14:30:00Z.
    const NOW: i64 = 1_795_617_000_000_000;

    fn back(text: &str) -> Option<i64> {
        parse(text, NOW).ok().map(|since| (NOW - i64::try_from(since.us).unwrap()) / 1_000_000)
    }

    #[test]
    fn durations_go_back_from_now() {
        assert_eq!(rfc3339(NOW / 1_000_000), "2026-11-25T14:30:00Z");
        for (text, seconds) in [
            ("1h", 3600),
            ("-2h", 7200),
            ("1.5m", 90),
            ("1d12h", 129_600),
            ("3 days ago", 259_200),
            ("-1h 30min", 5400),
            ("2 weeks", 1_209_600),
            ("500ms", 0),
            ("now", 0),
        ] {
            assert_eq!(back(text), Some(seconds), "{text}");
            assert_eq!(parse(text, NOW).map(|since| since.local), Ok(false), "{text}");
        }
    }

    #[test]
    fn moments_with_a_zone_are_what_they_say() {
        for text in [
            "2026-11-25T14:03:00Z",
            "2026-11-25T15:03:00+01:00",
            "2026-11-25t14:03z",
            "2026-11-25 14:03 UTC",
            "2026-11-25T14:03:00.612877488Z",
            "@1795615380",
        ] {
            assert_eq!((back(text), parse(text, NOW).unwrap().local), (Some(1620), false), "{text}");
        }
    }

    #[test]
    fn moments_without_a_zone_are_local_and_said_to_be() {
        let (year, month, day) = local_date(NOW / 1_000_000).unwrap();
        let midnight = NOW / 1_000_000 - local_seconds((year, month, day), (0, 0, 0)).unwrap();
        for text in ["today", "00:00", "00:00:00", &format!("{year}-{month:02}-{day:02}")] {
            assert_eq!((back(text), parse(text, NOW).unwrap().local), (Some(midnight), true), "{text}");
        }
        let yesterday = back("yesterday").unwrap() - midnight;
        assert!((82_800..=90_000).contains(&yesterday), "{yesterday}");
        let written = local_seconds((2026, 11, 24), (14, 3, 5)).unwrap();
        for text in ["2026-11-24 14:03:05", "2026-11-24T14:03:05", " 2026-11-24 14:03:05.9 "] {
            assert_eq!(back(text), Some(NOW / 1_000_000 - written), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_has_not_come_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "-",
            "@",
            "@x",
            "0s",
            "-1",
            "1y",
            "h",
            "1h-",
            "--follow",
            "tomorrow",
            "ago",
            " ago",
            "14",
            "14:",
            "14:60",
            "24:00",
            "1:2:3:4",
            "14:03:05.",
            "14:03Z",
            "2026-13-01",
            "2026-02-30",
            "2026-02-30T00:00Z",
            "2026-11-25T14:03:00+1",
            "2026-11-25T14:03:00ZZ",
            "26-11-25",
            "2026/11/25",
            "é",
            "1é",
            "14:0é",
            "2026-11-2é",
            "99999999999999999999h",
            "@99999999999999999999",
            "@-1",
            "+1h",
            "1e3h",
            "NaN",
            "inf",
            "2026-11-25T14:03:00\u{0}Z",
            "1..2h",
        ] {
            assert!(parse(text, NOW).is_err(), "{text:?}");
        }
        let error = parse("2026-11-25T14:31:00Z", NOW).unwrap_err();
        assert!(error.contains("still to come"), "{error}");
        assert!(parse("1900-01-01T00:00:00Z", NOW).unwrap_err().contains("before 1970"));
    }
}
