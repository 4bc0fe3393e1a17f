//! The types of config values, and how text becomes a value as Kafka's `ConfigDef` has it.

use std::fmt;

/// The type of a config, with its name and its code in DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Text.
    String,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Short,
    /// 64 bits, signed.
    Long,
    /// 64-bit floating point.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class.
    Class,
    /// A secret text.
    Password,
}

impl Kind {
    /// The type as DescribeConfigs carries it.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// Kafka's word for the type, such as `INT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// The Rust types of the table, under Kafka's names.
pub type Boolean = bool;
/// See [`Boolean`].
pub type Int = i32;
/// See [`Boolean`].
pub type Short = i16;
/// See [`Boolean`].
pub type Long = i64;
/// See [`Boolean`].
pub type Double = f64;
/// See [`Boolean`].
pub type List = Vec<String>;

/// The name of a Java class. Dohle loads none; it keeps the name to report it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Class(pub String);

/// A secret. Its `Debug` and `Display` do not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A parsed value. Its `Display` is the text in which Kafka reports it.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// See [`Kind::Boolean`].
    Boolean(bool),
    /// See [`Kind::String`].
    String(String),
    /// See [`Kind::Int`].
    Int(i32),
    /// See [`Kind::Short`].
    Short(i16),
    /// See [`Kind::Long`].
    Long(i64),
    /// See [`Kind::Double`].
    Double(f64),
    /// See [`Kind::List`].
    List(Vec<String>),
    /// See [`Kind::Class`].
    Class(Class),
    /// See [`Kind::Password`].
    Password(Password),
}

impl Value {
    /// Parses `text`; the error is the reason, in Kafka's wording.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        // Java's `String.trim` cuts everything up to the space, controls included.
        let text = text.trim_matches(|c: char| c <= ' ');
        let not_a_number = || format!("Not a number of type {}", kind.name());
        match kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Self::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Self::Boolean(false)),
            Kind::Boolean => Err("Expected value to be either true or false".to_owned()),
            Kind::Int => text.parse().map(Self::Int).map_err(|_| not_a_number()),
            Kind::Short => text.parse().map(Self::Short).map_err(|_| not_a_number()),
            Kind::Long => text.parse().map(Self::Long).map_err(|_| not_a_number()),
            // Differs from Kafka: NaN is refused, for it passes every range check.
            Kind::Double => match text.parse::<f64>() {
                Ok(number) if !number.is_nan() => Ok(Self::Double(number)),
                _ => Err(not_a_number()),
            },
            Kind::List => parse_list(text).map(Self::List),
            Kind::String => Ok(Self::String(text.to_owned())),
            Kind::Class => Ok(Self::Class(Class(text.to_owned()))),
            Kind::Password => Ok(Self::Password(Password(text.to_owned()))),
        }
    }

    /// The number, where the value is a whole one.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Short(number) => Some(i64::from(*number)),
            Self::Long(number) => Some(*number),
            Self::Boolean(_)
            | Self::String(_)
            | Self::Double(_)
            | Self::List(_)
            | Self::Class(_)
            | Self::Password(_) => None,
        }
    }

    /// The number, where the value is a floating one.
    pub(crate) fn as_double(&self) -> Option<f64> {
        if let Self::Double(number) = self { Some(*number) } else { None }
    }

    /// The text, where the value is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The items of a list; none of any other value.
    pub(crate) fn as_list(&self) -> &[String] {
        if let Self::List(items) = self { items } else { &[] }
    }
}

/// Splits at commas, trims, and removes what is there twice. Empty text is the empty list.
fn parse_list(text: &str) -> Result<Vec<String>, String> {
    let mut list: Vec<String> = Vec::new();
    if text.is_empty() {
        return Ok(list);
    }
    for item in text.split(',').map(str::trim) {
        if item.is_empty() {
            return Err("values must not be empty".to_owned());
        }
        if !list.iter().any(|known| known == item) {
            list.push(item.to_owned());
        }
    }
    Ok(list)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::String(value) => f.write_str(value),
            Self::Int(value) => write!(f, "{value}"),
            Self::Short(value) => write!(f, "{value}"),
            Self::Long(value) => write!(f, "{value}"),
            Self::Double(value) => write_double(f, *value),
            Self::List(value) => f.write_str(&value.join(",")),
            Self::Class(value) => f.write_str(&value.0),
            Self::Password(_) => f.write_str("[hidden]"),
        }
    }
}

/// Writes as Java's `Double.toString` does: always a decimal point, an exponent from 10^7 and below 10^-3.
fn write_double(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return write!(f, "{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => write!(f, "{mantissa}.0E{exponent}"),
        _ => f.write_str(&text),
    }
}

/// A Rust type that a config can have.
pub trait Typed: Sized {
    /// Its kind in the table.
    const KIND: Kind;

    /// The value as this type; `None` stands for an absent value and for one of another kind.
    fn from_value(value: Option<Value>) -> Option<Self>;
}

/// Implements [`Typed`] for a type and the variant that holds it.
macro_rules! typed {
    ($($ty:ty => $kind:ident,)*) => {$(
        impl Typed for $ty {
            const KIND: Kind = Kind::$kind;

            fn from_value(value: Option<Value>) -> Option<Self> {
                if let Some(Value::$kind(value)) = value { Some(value) } else { None }
            }
        }
    )*};
}

typed! {
    bool => Boolean,
    String => String,
    i32 => Int,
    i16 => Short,
    i64 => Long,
    f64 => Double,
    Vec<String> => List,
    Class => Class,
    Password => Password,
}

impl<T: Typed> Typed for Option<T> {
    const KIND: Kind = T::KIND;

    fn from_value(value: Option<Value>) -> Option<Self> {
        Some(T::from_value(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parsed_and_reported_as_kafka_does() {
        for (kind, text, expected) in [
            (Kind::Long, " 5 ", Ok("5")),
            (Kind::Long, "+5", Ok("5")),
            (Kind::Long, "", Err("Not a number of type LONG")),
            (Kind::Long, "99999999999999999999", Err("Not a number of type LONG")),
            (Kind::Int, "3000000000", Err("Not a number of type INT")),
            (Kind::Short, "40000", Err("Not a number of type SHORT")),
            (Kind::Boolean, "TRUE", Ok("true")),
            (Kind::Boolean, "yes", Err("Expected value to be either true or false")),
            (Kind::Double, "1e-1", Ok("0.1")),
            (Kind::Double, "1", Ok("1.0")),
            (Kind::Double, "10000000", Ok("1.0E7")),
            (Kind::Double, "0.0001", Ok("1.0E-4")),
            (Kind::Double, "1.7976931348623157E308", Ok("1.7976931348623157E308")),
            (Kind::Double, "NaN", Err("Not a number of type DOUBLE")),
            (Kind::List, "", Ok("")),
            (Kind::List, " a , b,a", Ok("a,b")),
            (Kind::List, "a,", Err("values must not be empty")),
            (Kind::String, " x y ", Ok("x y")),
            (Kind::Password, "secret", Ok("[hidden]")),
        ] {
            let parsed = Value::parse(kind, text).map(|value| value.to_string());
            assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let secret = Value::parse(Kind::Password, "secret").unwrap();
        assert!(!format!("{secret:?} {secret}").contains("secret"));
    }
}
