//! What a command prints: JSON as it came, or a table for people.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

/// A column: its head, and the field that stands in it; a dot leads into a field.
pub(super) type Column = (&'static str, &'static str);

/// Prints a list: a line of JSON each, or the rows of a table as they come.
pub(super) struct List<'a, W> {
    output: W,
    is_json: bool,
    columns: &'a [Column],
    rows: Vec<Vec<String>>,
}

/// Rows whose widths are measured together; of a longer list, each so many.
const MEASURED: usize = 256;

impl<'a, W: Write> List<'a, W> {
    pub(super) fn new(output: W, is_json: bool, columns: &'a [Column]) -> Self {
        Self { output, is_json, columns, rows: Vec::new() }
    }

    pub(super) fn item(&mut self, item: &Value) -> Result<()> {
        if self.is_json {
            return Ok(writeln!(self.output, "{item}")?);
        }
        if self.rows.is_empty() {
            self.rows.push(self.columns.iter().map(|(head, _)| (*head).to_owned()).collect());
        }
        self.rows.push(self.columns.iter().map(|(_, field)| shown(field_of(item, field))).collect());
        if self.rows.len() > MEASURED { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<_> = (0..self.columns.len()).map(|column| width(column).unwrap_or_default()).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(self.output, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Prints what is left; `nothing` in the place of an empty table.
    pub(super) fn end(mut self, is_empty: bool, nothing: &str) -> Result<()> {
        if is_empty && !self.is_json {
            writeln!(self.output, "{nothing}")?;
        }
        self.flush()?;
        Ok(self.output.flush()?)
    }
}

/// Prints one thing: its JSON, or `text`.
pub(super) fn one(mut output: impl Write, is_json: bool, thing: &Value, text: impl FnOnce() -> String) -> Result<()> {
    if is_json {
        writeln!(output, "{thing}")?
    } else {
        writeln!(output, "{}", text())?
    }
    Ok(output.flush()?)
}

fn field_of<'a>(item: &'a Value, field: &str) -> &'a Value {
    field.split('.').fold(item, |value, name| &value[name])
}

/// A value in words. No control character passes: what users call themselves must not move the cursor.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The field of a thing, in words.
pub(super) fn said(thing: &Value, field: &str) -> String {
    shown(field_of(thing, field))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(is_json: bool, items: &[Value]) -> String {
        let mut output = Vec::new();
        let mut list = List::new(&mut output, is_json, &[("HANDLE", "handle"), ("HEAD", "chat.head")]);
        items.iter().try_for_each(|item| list.item(item)).unwrap();
        list.end(items.is_empty(), "nobody").unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_list_is_a_table_for_people_and_a_line_each_for_programs() {
        let items = [
            json!({ "handle": "al\u{1b}[2J", "chat": { "head": 5 } }),
            json!({ "handle": "bob", "chat": { "head": null } }),
        ];
        assert_eq!(printed(false, &items), "HANDLE  HEAD\nal[2J   5\nbob     –\n");
        assert_eq!(printed(true, &items), format!("{}\n{}\n", items[0], items[1]));
        assert_eq!((printed(false, &[]), printed(true, &[])), ("nobody\n".to_owned(), String::new()));
    }
}
