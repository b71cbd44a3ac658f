//! JSON as serde_json writes it, but for two things: a line starts with one write, where serde_json takes one for every
//! step of its indentation (a document of a full node has a hundred thousand lines), and what steers a terminal is
//! escaped in names too.

use super::text::steers;
use serde::Serialize;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// Writes a document, on one line or indented for people who look.
///
/// # Errors
/// The write's.
pub fn write_json(writer: &mut impl Write, document: &impl Serialize, one_line: bool) -> io::Result<()> {
    let format = JsonFormat::new(one_line);
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut *writer, format))?;
    writer.write_all(b"\n")
}

/// The start of a line, as deep as documents go.
const LINE: &[u8] = b",\n                                                                ";
const STEP: usize = 2;

/// Indents by two blanks, or writes one line.
#[derive(Debug, Default)]
struct JsonFormat {
    one_line: bool,
    depth: usize,
    /// Whether something stands in what ends next.
    filled: bool,
}

impl JsonFormat {
    fn new(one_line: bool) -> Self {
        Self { one_line, ..Self::default() }
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W, comma: bool) -> io::Result<()> {
        if self.one_line {
            return if comma { writer.write_all(b",") } else { Ok(()) };
        }
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

impl Formatter for JsonFormat {
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
        writer.write_all(if self.one_line { b":" } else { b": " })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        if text.is_ascii() || !text.contains(steers) {
            return writer.write_all(text.as_bytes());
        }
        // None of them is beyond the first plane: four digits are enough.
        text.chars().try_for_each(|c| match steers(c) {
            true => write!(writer, "\\u{:04x}", u32::from(c)),
            false => write!(writer, "{c}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn formatted(value: &Value, one_line: bool) -> String {
        let mut text = Vec::new();
        assert!(write_json(&mut text, value, one_line).is_ok());
        String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned()
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
            assert_eq!(formatted(&value, false), serde_json::to_string_pretty(&value).unwrap_or_default());
            assert_eq!(formatted(&value, true), serde_json::to_string(&value).unwrap_or_default());
        }
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_and_means_the_same() {
        let name = json!({"na\u{9b}me": "a\u{1b}[2J \u{9b}31m \u{202e}x é 漢 🦀"});
        for one_line in [true, false] {
            let text = formatted(&name, one_line);
            assert!(!text.chars().any(|c| steers(c) && c != '\n'), "{text:?}");
            assert!(text.contains("é 漢 🦀"), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).ok().as_ref(), Some(&name));
        }
    }
}
