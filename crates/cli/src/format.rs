//! How a record is shown: as its value, by a template, or as JSON.

use dohle_records::Record;
use dohle_types::TopicPartition;
use serde_json::{Value, json};

/// A way to show records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// The value and a line end.
    Value,
    /// By a template.
    Template(Vec<Part>),
    /// A JSON object and a line end.
    Json,
}

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Text(Vec<u8>),
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
    Offset,
    Partition,
    Topic,
    Timestamp,
}

/// A template as kcat has them: `%k` key, `%v` or `%s` value, `%K` and `%S` their lengths (-1 for null), `%h` headers,
/// `%o` offset, `%p` partition, `%t` topic, `%T` timestamp, `%%`; `\n`, `\t`, `\r`, `\0`, `\\`.
pub(crate) fn parse_template(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let part = match char {
            '%' => match chars.next() {
                Some('k') => Part::Key,
                Some('K') => Part::KeyLength,
                Some('v' | 's') => Part::Value,
                Some('V' | 'S') => Part::ValueLength,
                Some('h') => Part::Headers,
                Some('o') => Part::Offset,
                Some('p') => Part::Partition,
                Some('t') => Part::Topic,
                Some('T') => Part::Timestamp,
                Some('%') => {
                    literal.push(b'%');
                    continue;
                }
                other => {
                    let shown = other.map(String::from).unwrap_or_default();
                    return Err(format!("%{shown} means nothing: there are %k %v %K %V %h %o %p %t %T %%"));
                }
            },
            '\\' => {
                literal.push(match chars.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('r') => b'\r',
                    Some('0') => 0,
                    Some('\\') => b'\\',
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(format!("\\{shown} means nothing: there are \\n \\t \\r \\0 \\\\"));
                    }
                });
                continue;
            }
            char => {
                let mut bytes = [0; 4];
                literal.extend_from_slice(char.encode_utf8(&mut bytes).as_bytes());
                continue;
            }
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(part);
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

impl Format {
    /// Appends a record.
    pub(crate) fn write(&self, out: &mut Vec<u8>, partition: &TopicPartition, record: &Record) {
        match self {
            Self::Value => {
                out.extend_from_slice(record.value.as_deref().unwrap_or_default());
                out.push(b'\n');
            }
            Self::Template(parts) => parts.iter().for_each(|part| part.write(out, partition, record)),
            Self::Json => {
                out.extend_from_slice(to_json(partition, record).to_string().as_bytes());
                out.push(b'\n');
            }
        }
    }
}

impl Part {
    fn write(&self, out: &mut Vec<u8>, partition: &TopicPartition, record: &Record) {
        let mut text = |text: String| out.extend_from_slice(text.as_bytes());
        let length =
            |bytes: Option<&bytes::Bytes>| bytes.map_or("-1".to_owned(), |bytes| bytes.len().to_string());
        match self {
            Self::Text(bytes) => out.extend_from_slice(bytes),
            Self::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
            Self::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
            Self::KeyLength => text(length(record.key.as_ref())),
            Self::ValueLength => text(length(record.value.as_ref())),
            Self::Offset => text(record.offset.to_string()),
            Self::Partition => text(partition.partition.to_string()),
            Self::Topic => text(partition.topic.to_string()),
            Self::Timestamp => text(record.timestamp.to_string()),
            Self::Headers => {
                for (position, header) in record.headers.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(&header.key);
                    out.push(b'=');
                    out.extend_from_slice(header.value.as_deref().unwrap_or(b"NULL"));
                }
            }
        }
    }
}

fn to_json(partition: &TopicPartition, record: &Record) -> Value {
    let headers =
        record.headers.iter().map(|header| json!([text(&header.key), optional(header.value.as_ref())]));
    json!({
        "topic": partition.topic.as_str(),
        "partition": partition.partition.0,
        "offset": record.offset.0,
        "timestamp": record.timestamp.0,
        "key": optional(record.key.as_ref()),
        "value": optional(record.value.as_ref()),
        "headers": headers.collect::<Vec<_>>(),
    })
}

fn optional(bytes: Option<&bytes::Bytes>) -> Value {
    bytes.map_or(Value::Null, |bytes| text(bytes))
}

/// Bytes as a string, or as `{"base64": ...}` if they are none.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": base64(bytes) }),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            (0..3).fold(0, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at) & 63) as usize;
            let char = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            out.push(if at <= chunk.len() { char.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use dohle_records::RecordHeader;
    use dohle_types::{Offset, Timestamp};
    use expect_test::{Expect, expect};

    use super::*;

    fn record() -> Record {
        Record {
            offset: Offset(42),
            timestamp: Timestamp(1_795_341_600_000),
            key: Some("user-7".into()),
            value: Some("hello".into()),
            headers: vec![
                RecordHeader { key: "trace".into(), value: Some("abc".into()) },
                RecordHeader { key: "empty".into(), value: None },
            ],
        }
    }

    fn check(format: &Format, record: &Record, expected: Expect) {
        let mut out = Vec::new();
        format.write(&mut out, &TopicPartition::new("orders", 3), record);
        expected.assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn a_template_shows_what_it_names() {
        let template = |text| Format::Template(parse_template(text).unwrap());
        check(
            &template(r"%t-%p@%o %T %k(%K)=%v(%V) %h 100%%\n"),
            &record(),
            expect![[r#"
            orders-3@42 1795341600000 user-7(6)=hello(5) trace=abc,empty=NULL 100%
        "#]],
        );
        let tombstone = Record { value: None, ..record() };
        check(&template("%v|%S"), &tombstone, expect!["|-1"]);
        assert!(parse_template("%x").is_err());
        assert!(parse_template("50%").is_err());
    }

    #[test]
    fn json_has_everything() {
        check(
            &Format::Json,
            &record(),
            expect![[r#"
            {"headers":[["trace","abc"],["empty",null]],"key":"user-7","offset":42,"partition":3,"timestamp":1795341600000,"topic":"orders","value":"hello"}
        "#]],
        );
    }

    #[test]
    fn json_has_bytes_that_are_no_text_in_base64() {
        let record =
            Record { value: Some(vec![0xff, 0, 1, 2].into()), key: None, headers: Vec::new(), ..record() };
        check(
            &Format::Json,
            &record,
            expect![[r#"
            {"headers":[],"key":null,"offset":42,"partition":3,"timestamp":1795341600000,"topic":"orders","value":{"base64":"/wABAg=="}}
        "#]],
        );
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes), text);
        }
    }
}
