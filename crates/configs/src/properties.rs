//! Java's `.properties` format, as `java.util.Properties.load` reads it.

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
            let line = index + 1;
            let (name, value) = split(&logical);
            entries.push(Property { name: unescape(name, line)?, value: unescape(value, line)?, line });
        }
        Ok(Self { entries })
    }
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
