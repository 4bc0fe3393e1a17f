//! Arguments that several commands understand alike.

use std::str::FromStr;
use std::time::Duration;

use dohle_types::{Offset, PartitionIndex, Str, Timestamp};

/// A place in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The first record there is.
    Beginning,
    /// Behind the last record.
    End,
    /// An offset.
    Offset(Offset),
    /// The first record of a time.
    Timestamp(Timestamp),
    /// So many records on, or back.
    Shift(i64),
}

impl FromStr for Place {
    type Err = String;

    /// `beginning` or `earliest`, `end` or `latest`, `123`, `2026-11-22T10:00:00Z`, `@1795341600000` (milliseconds
    /// since 1970), `PT1H` (an hour ago), `+10`, `-10`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, jiff::Timestamp::now())
    }
}

impl Place {
    fn parse(text: &str, now: jiff::Timestamp) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        let invalid = || {
            format!(
                "`{text}` is no place in a log: write beginning, end, an offset, +N, -N, a time such as \
                 2026-11-22T10:00:00Z, a duration such as PT1H to go back, or @ and milliseconds since 1970"
            )
        };
        if let Some(millis) = text.strip_prefix('@') {
            return millis.parse().map(|millis| Self::Timestamp(Timestamp(millis))).map_err(|_| invalid());
        }
        if text.starts_with(['+', '-']) {
            return text.parse().map(Self::Shift).map_err(|_| invalid());
        }
        if text.starts_with('P') {
            return ago(text, now).map(Self::Timestamp).ok_or_else(invalid);
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(|offset| Self::Offset(Offset(offset))).map_err(|_| invalid());
        }
        parse_time(text).map(Self::Timestamp).ok_or_else(invalid)
    }
}

/// The time that lies a duration back, as ISO 8601 has durations; a day has 24 hours.
fn ago(text: &str, now: jiff::Timestamp) -> Option<Timestamp> {
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    let then = now.checked_sub(duration).ok().filter(|_| !duration.is_negative())?;
    Some(Timestamp(then.as_millisecond()))
}

/// A time as ISO 8601 has it; without an offset it is UTC, without a time it is midnight.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(timestamp.as_millisecond()));
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(zoned.timestamp().as_millisecond()))
}

/// How long ago: `90s`, `15m`, `2h`, `7d`.
pub(crate) fn parse_ago(text: &str) -> Option<Duration> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let (number, seconds) =
        units.iter().find_map(|&(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// `TOPIC` or `TOPIC:PARTITION`.
pub(crate) fn parse_topic_partition(text: &str) -> (Str, Option<PartitionIndex>) {
    match text.rsplit_once(':').map(|(topic, partition)| (topic, partition.parse())) {
        Some((topic, Ok(partition))) => (topic.into(), Some(PartitionIndex(partition))),
        Some((_, Err(_))) | None => (text.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        let now = jiff::Timestamp::from_millisecond(1_795_341_600_000).unwrap();
        for (text, place) in [
            ("beginning", Place::Beginning),
            ("earliest", Place::Beginning),
            ("latest", Place::End),
            ("42", Place::Offset(Offset(42))),
            ("+5", Place::Shift(5)),
            ("-5", Place::Shift(-5)),
            ("@1795341600000", Place::Timestamp(Timestamp(1_795_341_600_000))),
            ("2026-11-22T10:00:00Z", Place::Timestamp(Timestamp(1_795_341_600_000))),
            ("2026-11-22T12:00:00+02:00", Place::Timestamp(Timestamp(1_795_341_600_000))),
            ("2026-11-22T10:00:00", Place::Timestamp(Timestamp(1_795_341_600_000))),
            ("2026-11-22 10:00", Place::Timestamp(Timestamp(1_795_341_600_000))),
            ("2026-11-22", Place::Timestamp(Timestamp(1_795_305_600_000))),
            ("PT1H", Place::Timestamp(Timestamp(1_795_338_000_000))),
            ("P1DT0.5S", Place::Timestamp(Timestamp(1_795_255_199_500))),
        ] {
            assert_eq!(Place::parse(text, now), Ok(place), "{text}");
        }
        for text in ["", "soon", "@x", "99999999999999999999", "+", "P", "PT-1H", "P1M"] {
            assert!(Place::parse(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn times_ago_are_understood() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800)] {
            assert_eq!(parse_ago(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "2", "-2h", "2 h", "1.5h", "99999999999999999999s", "999999999999999999d"] {
            assert_eq!(parse_ago(text), None, "{text}");
        }
    }

    #[test]
    fn a_partition_may_follow_a_topic() {
        assert_eq!(parse_topic_partition("orders"), ("orders".into(), None));
        assert_eq!(parse_topic_partition("orders:3"), ("orders".into(), Some(PartitionIndex(3))));
    }
}
