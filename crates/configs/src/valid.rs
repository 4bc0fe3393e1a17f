//! Which values of its type a config allows.

use std::fmt;

use crate::value::Value;

/// The allowed values of a config. Its `Display` is the text in the docs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Valid {
    /// Every value of the type.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers between these two, both included.
    Between(i64, i64),
    /// Numbers between these two, both included, or -1.
    BetweenOrMinusOne(i64, i64),
    /// Every number but zero; a negative one means "no limit".
    NotZero,
    /// Fractions between these two, both included.
    Fraction(f64, f64),
    /// Any text but the empty one.
    NotEmpty,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in upper or lower case.
    OneOfIgnoreCase(&'static [&'static str]),
    /// A list of some of these texts.
    Subset(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
}

impl Valid {
    /// Checks a value of the config `name`; the error is the reason, in Kafka's wording.
    pub fn check(self, name: &str, value: &Value) -> Result<(), String> {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) => check_min(value, min),
            Self::Between(min, max) => check_min(value, min).and_then(|()| check_max(value, max)),
            Self::BetweenOrMinusOne(min, max) => {
                let allowed =
                    value.as_integer().is_none_or(|number| number == -1 || (min..=max).contains(&number));
                require(allowed, || format!("Value must be between {min} and {max} or equal to -1"))
            }
            Self::NotZero => {
                let allowed = value.as_integer() != Some(0);
                require(allowed, || "Value must be at least 1, or -1 for no limit".to_owned())
            }
            Self::Fraction(min, max) => {
                let number = value.as_double().unwrap_or(min);
                require(number >= min, || format!("Value must be at least {min}"))?;
                require(number <= max, || format!("Value must be no more than {max}"))
            }
            Self::NotEmpty => require(value.as_text() != Some(""), || "String must be non-empty".to_owned()),
            Self::OneOf(allowed) => {
                let known = value.as_text().is_none_or(|text| allowed.contains(&text));
                require(known, || one_of(allowed, ""))
            }
            Self::OneOfIgnoreCase(allowed) => {
                let is_known = |text: &str| allowed.iter().any(|known| known.eq_ignore_ascii_case(text));
                require(value.as_text().is_none_or(is_known), || one_of(allowed, " (case insensitive)"))
            }
            Self::Subset(allowed) => {
                let known = value.as_list().iter().all(|item| allowed.contains(&item.as_str()));
                require(known, || one_of(allowed, ""))
            }
            Self::ThrottledReplicas => require(is_throttled_replicas(value.as_list()), || {
                format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                )
            }),
        }
    }
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

fn check_min(value: &Value, min: i64) -> Result<(), String> {
    let allowed = value.as_integer().is_none_or(|number| number >= min);
    require(allowed, || format!("Value must be at least {min}"))
}

fn check_max(value: &Value, max: i64) -> Result<(), String> {
    let allowed = value.as_integer().is_none_or(|number| number <= max);
    require(allowed, || format!("Value must be no more than {max}"))
}

fn one_of(allowed: &[&str], how: &str) -> String {
    format!("String must be one of{how}: {}", allowed.join(", "))
}

fn is_throttled_replicas(items: &[String]) -> bool {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let is_replica = |item: &String| {
        item.split_once(':').is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
    };
    matches!(items, [star] if star == "*") || items.iter().all(is_replica)
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(min) => write!(f, "at least {min}"),
            Self::Between(min, max) => write!(f, "{min} to {max}"),
            Self::BetweenOrMinusOne(min, max) => write!(f, "{min} to {max}, or -1"),
            Self::NotZero => f.write_str("at least 1, or -1 for no limit"),
            Self::Fraction(min, max) => write!(f, "{min} to {max}"),
            Self::NotEmpty => f.write_str("not empty"),
            Self::OneOf(allowed) | Self::OneOfIgnoreCase(allowed) => {
                write!(f, "one of {}", allowed.join(", "))
            }
            Self::Subset(allowed) => write!(f, "some of {}", allowed.join(", ")),
            Self::ThrottledReplicas => f.write_str("* or partition:broker,…"),
        }
    }
}
