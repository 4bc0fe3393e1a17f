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
            Self::BetweenOrMinusOne(min, max) => match value.as_integer() {
                Some(number) if number != -1 && !(min..=max).contains(&number) => {
                    Err(format!("Value must be between {min} and {max} or equal to -1"))
                }
                _ => Ok(()),
            },
            Self::NotZero => match value.as_integer() {
                Some(0) => Err("Value must be at least 1, or -1 for no limit".to_owned()),
                _ => Ok(()),
            },
            Self::Fraction(min, max) => match value {
                Value::Double(number) if *number < min => Err(format!("Value must be at least {min}")),
                Value::Double(number) if *number > max => Err(format!("Value must be no more than {max}")),
                _ => Ok(()),
            },
            Self::NotEmpty => match value {
                Value::String(text) if text.is_empty() => Err("String must be non-empty".to_owned()),
                _ => Ok(()),
            },
            Self::OneOf(allowed) => match value {
                Value::String(text) if !allowed.contains(&text.as_str()) => Err(one_of(allowed, "")),
                _ => Ok(()),
            },
            Self::OneOfIgnoreCase(allowed) => match value {
                Value::String(text) if !allowed.iter().any(|known| known.eq_ignore_ascii_case(text)) => {
                    Err(one_of(allowed, " (case insensitive)"))
                }
                _ => Ok(()),
            },
            Self::Subset(allowed) => match value {
                Value::List(items) if !items.iter().all(|item| allowed.contains(&item.as_str())) => {
                    Err(one_of(allowed, ""))
                }
                _ => Ok(()),
            },
            Self::ThrottledReplicas => match value {
                Value::List(items) if !is_throttled_replicas(items) => Err(format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                )),
                _ => Ok(()),
            },
        }
    }
}

fn check_min(value: &Value, min: i64) -> Result<(), String> {
    match value.as_integer() {
        Some(number) if number < min => Err(format!("Value must be at least {min}")),
        _ => Ok(()),
    }
}

fn check_max(value: &Value, max: i64) -> Result<(), String> {
    match value.as_integer() {
        Some(number) if number > max => Err(format!("Value must be no more than {max}")),
        _ => Ok(()),
    }
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
