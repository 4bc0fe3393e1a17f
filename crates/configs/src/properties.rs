//! Java's `.properties` format, as `java.util.Properties.load` reads it.
//!
//! Differs from Kafka: it reads the bytes as ISO 8859-1, Dohle as UTF-8.

use std::fmt::Write as _;

/// The settings of a properties file, in the order of the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties {
    /// Every setting; a name that is set twice is here twice, and the last one counts.
    pub entries: Vec<Property>,
}

/// One setting of a properties file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// Its name, with escapes resolved.
    pub name: String,
    /// Its value, with escapes resolved.
    pub value: String,
    /// The line it begins on, from 1.
    pub line: usize,
}

/// Why a text is not in the properties format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: `\\u` must be followed by four hexadecimal digits; write a backslash as `\\\\`")]
pub struct PropertiesError {
    /// The line, from 1.
    pub line: usize,
}

impl Properties {
    /// Parses a whole file.
    pub fn parse(text: &str) -> Result<Self, PropertiesError> {
        let mut entries = Vec::new();
        let mut lines = natural_lines(text).enumerate();
        while let Some((index, first)) = lines.next() {
            let first = first.trim_start_matches(is_blank);
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = first.to_owned();
            while ends_in_continuation(&logical) {
                logical.pop();
                // A comment sign in a continued line is part of the value.
                let Some((_, next)) = lines.next() else { break };
                logical.push_str(next.trim_start_matches(is_blank));
            }
            if logical.is_empty() {
                continue;
            }
            let line = index + 1;
            let (name, value) = split(&logical);
            entries.push(Property { name: unescape(name, line)?, value: unescape(value, line)?, line });
        }
        Ok(Self { entries })
    }
}

/// A value as it stands in a file, so that whoever parses that gets it back. Java reads bytes as ISO 8859-1, which is why
/// what is not ASCII is escaped.
#[must_use]
pub fn escape_value(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            ' ' if escaped.is_empty() => escaped.push_str("\\ "),
            ' '..='~' => escaped.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(escaped, "\\u{unit:04x}");
            }),
        }
    }
    escaped
}

/// Lines as Java has them: ended by `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| {
        let line = line.strip_suffix('\r').unwrap_or(line);
        line.split('\r')
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Whether the line ends in an odd number of backslashes.
fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or blank that is not escaped; one `=` or `:` may follow blanks.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = !escaped && c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(is_blank))
}

/// Resolves `\t`, `\n`, `\r`, `\f`, `\uXXXX`; before anything else a backslash is dropped.
fn unescape(text: &str, line: usize) -> Result<String, PropertiesError> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let push = |c: char, units: &mut Vec<u16>| units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    while let Some(c) = chars.next() {
        if c != '\\' {
            push(c, &mut units);
            continue;
        }
        match chars.next() {
            Some('t') => push('\t', &mut units),
            Some('n') => push('\n', &mut units),
            Some('r') => push('\r', &mut units),
            Some('f') => push('\u{c}', &mut units),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.chars().all(|c| c.is_ascii_hexdigit());
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
                units.push(unit.ok_or(PropertiesError { line })?);
            }
            Some(other) => push(other, &mut units),
            None => {}
        }
    }
    // Two `\u` escapes may be the halves of one character; a half alone becomes the replacement character.
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Option<BTreeMap<String, String>> {
        let properties = Properties::parse(text).ok()?;
        Some(properties.entries.into_iter().map(|entry| (entry.name, entry.value)).collect())
    }

    type Entries = &'static [(&'static str, &'static str)];

    /// What `java.util.Properties` (Java 17) makes of these texts; `None` is its IllegalArgumentException.
    #[rustfmt::skip]
    const JAVA: &[(&str, Option<Entries>)] = &[
        ("a=1", Some(&[("a", "1")])),
        ("a = 1 ", Some(&[("a", "1 ")])),
        ("a:1", Some(&[("a", "1")])),
        ("a 1", Some(&[("a", "1")])),
        ("a\t=\t1", Some(&[("a", "1")])),
        ("a==1", Some(&[("a", "=1")])),
        ("a : = 1", Some(&[("a", "= 1")])),
        ("# c\n! c\na=1", Some(&[("a", "1")])),
        ("a=1\\\n  2", Some(&[("a", "12")])),
        ("a=1\\\\\n2=3", Some(&[("2", "3"), ("a", "1\\")])),
        ("a\\ b=c", Some(&[("a b", "c")])),
        ("a\\:b\\=c=d", Some(&[("a:b=c", "d")])),
        ("\\u0041=\\u00e9", Some(&[("A", "é")])),
        ("a=\\ud83d\\ude00", Some(&[("a", "😀")])),
        ("a", Some(&[("a", "")])),
        ("=v", Some(&[("", "v")])),
        (":v", Some(&[("", "v")])),
        ("a=x\\ty\\nz", Some(&[("a", "x\ty\nz")])),
        ("a=\\q", Some(&[("a", "q")])),
        ("  \t a=1", Some(&[("a", "1")])),
        ("a=1\r\nb=2\rc=3", Some(&[("a", "1"), ("b", "2"), ("c", "3")])),
        ("a=1\\", Some(&[("a", "1")])),
        ("a=\\\n\\\n1", Some(&[("a", "1")])),
        ("a=1\\\n#b=2", Some(&[("a", "1#b=2")])),
        ("\\#a=1", Some(&[("#a", "1")])),
        ("a=1#c", Some(&[("a", "1#c")])),
        ("a=1\\\n\nb=2", Some(&[("a", "1"), ("b", "2")])),
        ("a=1\na=2", Some(&[("a", "2")])),
        ("a\u{c}=1", Some(&[("a", "1")])),
        ("#c\\\nb=1", Some(&[("b", "1")])),
        ("\\\na=1", Some(&[("a", "1")])),
        ("\\\n\nb=1", Some(&[("b", "1")])),
        ("a=1\\\\\\\n2", Some(&[("a", "1\\2")])),
        ("a=1\\\r\n  2", Some(&[("a", "12")])),
        ("a=", Some(&[("a", "")])),
        ("", Some(&[])),
        ("\n\n", Some(&[])),
        ("a=b=c:d e", Some(&[("a", "b=c:d e")])),
        ("a\\\n b=1", Some(&[("ab", "1")])),
        ("a b\\\n c", Some(&[("a", "bc")])),
        ("a=\\u0041b", Some(&[("a", "Ab")])),
        ("é=ü", Some(&[("é", "ü")])),
        ("a=\\u00", None),
        ("a=\\u00g0", None),
        ("a=1\\\n   \nb=2", Some(&[("a", "1"), ("b", "2")])),
        ("  \\\n  a=1", Some(&[("a", "1")])),
        ("#a\rb=1", Some(&[("b", "1")])),
        ("a=\\f", Some(&[("a", "\u{c}")])),
        ("a \\\n = 1", Some(&[("a", "1")])),
        ("a\\\n=1", Some(&[("a", "1")])),
    ];

    #[test]
    fn texts_are_read_as_java_reads_them() {
        for (text, expected) in JAVA {
            let expected = expected.map(|entries| {
                entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
            });
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_setting_knows_the_line_it_begins_on() {
        let properties = Properties::parse("# one\na=1\\\n2\n\nb=3\r\nc=\\u12").unwrap_err();
        assert_eq!(properties, PropertiesError { line: 6 });
        let properties = Properties::parse("# one\na=1\\\n2\n\nb=3").unwrap();
        let lines: Vec<_> =
            properties.entries.iter().map(|entry| (entry.name.as_str(), entry.line)).collect();
        assert_eq!(lines, [("a", 2), ("b", 5)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[\\\\ua0#!=: \t\r\n\\PC]{0,60}") {
            let _ = Properties::parse(&text);
        }

        #[test]
        fn what_is_escaped_is_read_back(name in "\\PC{1,20}", value in "\\PC{0,20}") {
            let escape = |text: &str| text.chars().flat_map(|c| ['\\', c]).collect::<String>();
            // These letters mean something else after a backslash.
            let plain = |text: &str| text.replace(['t', 'n', 'r', 'f', 'u'], "x");
            let (name, value) = (plain(&name), plain(&value));
            let read = parse(&format!("{}={}", escape(&name), escape(&value)));
            prop_assert_eq!(read, Some(BTreeMap::from([(name, value)])));
        }
    }
}
