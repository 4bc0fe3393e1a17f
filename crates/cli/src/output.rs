//! Tables: with borders for people at a terminal, aligned columns for pipes, or one JSON object a line.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table as Drawing, presets};
use serde_json::Value;

/// Says something on standard error; if that is closed, nobody wants to know.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes lines to standard output.
pub(crate) fn lines(lines: impl Iterator<Item = String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty table. A heading, in lower case and with `_` for spaces, is the key in JSON.
    pub(crate) fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row; null is shown as `-`.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Value; N]) {
        self.rows.push(cells.into());
    }

    /// Writes it to standard output.
    pub(crate) fn print(&self, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let text = if json { self.to_json() } else { self.to_text(out.is_terminal()) };
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn to_json(&self) -> String {
        let keys: Vec<String> = self.headings.iter().map(|it| it.to_lowercase().replace(' ', "_")).collect();
        let lines = self.rows.iter().map(|row| {
            let object: serde_json::Map<_, _> = keys.iter().cloned().zip(row.iter().cloned()).collect();
            format!("{}\n", Value::Object(object))
        });
        lines.collect()
    }

    pub(crate) fn to_text(&self, terminal: bool) -> String {
        let mut drawing = Drawing::new();
        drawing.load_style(if terminal { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
        drawing.set_content_arrangement(ContentArrangement::Disabled);
        drawing.set_header(self.headings.iter().map(|it| it.to_uppercase()));
        for row in &self.rows {
            drawing.add_row(row.iter().map(plain));
        }
        drawing.lines().map(|line| format!("{}\n", line.trim_end().trim_start_matches(' '))).collect()
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["topic", "high watermark", "replicas"]);
        table.row([json!("orders"), json!(12345), json!([1, 2])]);
        table.row([json!("p"), Value::Null, json!([])]);
        table
    }

    #[test]
    fn a_table_for_pipes_is_aligned_and_plain() {
        expect![[r#"
            TOPIC   HIGH WATERMARK  REPLICAS
            orders  12345           1,2
            p       -               -
        "#]]
        .assert_eq(&sample().to_text(false));
    }

    #[test]
    fn a_table_as_json_has_an_object_a_line() {
        expect![[r#"
            {"high_watermark":12345,"replicas":[1,2],"topic":"orders"}
            {"high_watermark":null,"replicas":[],"topic":"p"}
        "#]]
        .assert_eq(&sample().to_json());
    }
}
