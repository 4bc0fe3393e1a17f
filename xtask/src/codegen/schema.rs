//! The text form of a message schema; `crates/protocol/schemas/README.md` describes it.

/// Versions `from..=to`; empty if `to` is less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Versions {
    pub(super) from: i16,
    pub(super) to: i16,
}

impl Versions {
    pub(super) const NONE: Self = Self { from: 0, to: -1 };

    /// `3`, `3-7`, `3+` or `none`.
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no version"));
        if text == "none" {
            Ok(Self::NONE)
        } else if let Some(from) = text.strip_suffix('+') {
            Ok(Self { from: number(from)?, to: i16::MAX })
        } else if let Some((from, to)) = text.split_once('-') {
            Ok(Self { from: number(from)?, to: number(to)? })
        } else {
            Ok(Self { from: number(text)?, to: number(text)? })
        }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.from > self.to
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }

    pub(super) fn contains(self, other: Self) -> bool {
        other.is_empty() || self.and(other) == other
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.from, self.to) {
            _ if self.is_empty() => write!(f, "none"),
            (from, i16::MAX) => write!(f, "{from}+"),
            (from, to) if from == to => write!(f, "{from}"),
            (from, to) => write!(f, "{from}-{to}"),
        }
    }
}

/// What the first word of a schema says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Request,
    Response,
    Record,
    Other,
}

/// A message: its header line and its structures, the message itself first.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) key: Option<i16>,
    /// Whether it is Dohle's and not Kafka's.
    pub(super) ours: bool,
    pub(super) versions: Versions,
    pub(super) flexible: Versions,
    pub(super) structs: Vec<Struct>,
}

impl Message {
    pub(super) fn find(&self, name: &str) -> Result<&Struct, String> {
        self.structs.iter().find(|s| s.name == name).ok_or(format!("no structure is called {name}"))
    }
}

/// A structure and the versions in which it can occur.
#[derive(Debug)]
pub(super) struct Struct {
    pub(super) name: String,
    pub(super) versions: Versions,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Type,
    /// Within the versions of the structure.
    pub(super) versions: Versions,
    pub(super) nullable: Versions,
    pub(super) tag: Option<u32>,
    /// As it is written, `null` included.
    pub(super) default: Option<String>,
    /// Overrides the message's.
    pub(super) flexible: Option<Versions>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// A type of fixed size, by the name of the reader's and writer's method for it.
    Fixed(&'static str, usize),
    String,
    Bytes,
    Records,
    Array(Box<Type>),
    Struct(String),
}

impl Type {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "bool" => Self::Fixed("bool", 1),
            "int8" => Self::Fixed("i8", 1),
            "int16" => Self::Fixed("i16", 2),
            "uint16" => Self::Fixed("u16", 2),
            "int32" => Self::Fixed("i32", 4),
            "uint32" => Self::Fixed("u32", 4),
            "int64" => Self::Fixed("i64", 8),
            "float64" => Self::Fixed("f64", 8),
            "uuid" => Self::Fixed("uuid", 16),
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element)?)),
                None if text.starts_with(char::is_uppercase) => Self::Struct(text.to_owned()),
                None => return Err(format!("`{text}` is no type")),
            },
        })
    }

    /// The structure that it is or has as elements.
    fn structure(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.structure(),
            Self::Fixed(..) | Self::String | Self::Bytes | Self::Records => None,
        }
    }
}

/// Parses one schema.
pub(super) fn parse(text: &str) -> Result<Message, String> {
    let mut lines = text.lines();
    let mut message = parse_header(lines.next().unwrap_or_default())?;
    let main = Struct { name: message.name.clone(), versions: message.versions, fields: Vec::new() };
    message.structs.push(main);
    // The structures that are open, by depth: indices into `message.structs`.
    let mut open = vec![0];
    for (line, number) in lines.zip(2..) {
        parse_line(&mut message, &mut open, line).map_err(|e| format!("line {number}: {e}"))?;
    }
    for field in message.structs.iter().flat_map(|s| &s.fields) {
        let Some(name) = field.ty.structure() else { continue };
        let structure = message.find(name)?;
        if structure.fields.is_empty() || !structure.versions.contains(field.versions) {
            return Err(format!("{name} lacks fields, or versions that {} has", field.name));
        }
    }
    Ok(message)
}

fn parse_header(line: &str) -> Result<Message, String> {
    let mut words = line.split_whitespace();
    let kind = match words.next() {
        Some("request") => Kind::Request,
        Some("response") => Kind::Response,
        Some("metadata" | "coordinator-key" | "coordinator-value") => Kind::Record,
        Some("header" | "data") => Kind::Other,
        kind => return Err(format!("`{}` is no kind of message", kind.unwrap_or_default())),
    };
    let name = words.next().ok_or("the message has no name")?.to_owned();
    let (mut key, mut versions, mut flexible) = (None, Versions::NONE, Versions::NONE);
    for word in words {
        match word.split_once('=') {
            Some(("key", value)) => key = Some(value.parse().map_err(|_| format!("`{value}` is no key"))?),
            Some(("versions", value)) => versions = Versions::parse(value)?,
            Some(("flexible", value)) => flexible = Versions::parse(value)?,
            Some(("listeners" | "deprecated", _)) => {}
            None if word == "latest-unstable" => {}
            _ => return Err(format!("`{word}` is not understood")),
        }
    }
    if versions.is_empty() {
        return Err("the message has no versions".to_owned());
    }
    Ok(Message {
        kind,
        name,
        key,
        ours: false,
        versions,
        flexible: flexible.and(versions),
        structs: Vec::new(),
    })
}

#[expect(clippy::indexing_slicing, reason = "what is open is an index of what has been pushed")]
fn parse_line(message: &mut Message, open: &mut Vec<usize>, line: &str) -> Result<(), String> {
    let content = line.trim_start();
    let depth = (line.len() - content.len()) / 2;
    if depth == 0 || depth > open.len() {
        return Err("the indentation is wrong".to_owned());
    }
    open.truncate(depth);
    let parent = *open.last().ok_or("no structure is open")?;
    if let Some(definition) = content.strip_prefix("struct ") {
        let (name, versions) = definition.split_once(' ').ok_or("the structure has no versions")?;
        let versions = Versions::parse(versions)?.and(message.versions);
        open.push(declare(message, name, versions));
        return Ok(());
    }
    let field = parse_field(content, message.structs[parent].versions)?;
    // Lines that are indented further define the structure that the field names.
    if let Some(name) = field.ty.structure()
        && message.find(name).is_err()
    {
        open.push(declare(message, name, field.versions));
    }
    message.structs[parent].fields.push(field);
    Ok(())
}

/// The index of the structure of this name, new or, if a field has named it before, as that left it.
fn declare(message: &mut Message, name: &str, versions: Versions) -> usize {
    let mut structs = message.structs.iter_mut().enumerate();
    if let Some((index, named)) = structs.find(|(_, s)| s.name == name && s.fields.is_empty()) {
        named.versions = versions;
        return index;
    }
    message.structs.push(Struct { name: name.to_owned(), versions, fields: Vec::new() });
    message.structs.len() - 1
}

fn parse_field(content: &str, within: Versions) -> Result<Field, String> {
    let (name, rest) = content.split_once(": ").ok_or("a field is `NAME: TYPE VERSIONS`")?;
    let mut words = rest.split_whitespace();
    let ty = Type::parse(words.next().unwrap_or_default())?;
    let (mut versions, mut nullable, mut tag) = (None, Versions::NONE, None);
    let (mut default, mut flexible) = (None, None);
    for word in words {
        match word.split_once('=') {
            Some(("nullable", value)) => nullable = Versions::parse(value)?,
            Some(("tag", value)) => {
                let (number, tagged) = value.split_once('@').ok_or("a tag is `NUMBER@VERSIONS`")?;
                tag = Some((number.parse().map_err(|_| "a tag is a number")?, Versions::parse(tagged)?));
            }
            Some(("default", value)) => default = Some(value.to_owned()),
            Some(("flexible", value)) => flexible = Some(Versions::parse(value)?),
            Some(("entity", _)) => {}
            None if matches!(word, "key" | "ignorable" | "zero-copy") => {}
            None => versions = Some(Versions::parse(word)?),
            Some(_) => return Err(format!("`{word}` is not understood")),
        }
    }
    let versions = versions.or(tag.map(|(_, tagged)| tagged)).ok_or("the field has no versions")?;
    if tag.is_some_and(|(_, tagged)| tagged != versions) {
        return Err("a field that is tagged in some of its versions only is not supported".to_owned());
    }
    let versions = versions.and(within);
    if versions.is_empty() {
        return Err("the field is in no version of the message".to_owned());
    }
    let tag = tag.map(|(number, _)| number);
    let nullable = nullable.and(versions);
    Ok(Field { name: name.to_owned(), ty, versions, nullable, tag, default, flexible })
}
