//! D-Bus messages: calls with string arguments out, answers with one variant in.
//!
//! Source: the D-Bus specification, "Message Format" and "Marshaling". Written little-endian, read in both orders.

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the call of that serial.
    Answer(u32),
    /// An error to it.
    Refusal(u32),
    /// A signal, a call.
    Other,
}

/// A value that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl Value {
    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) => None,
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(self) -> Option<T> {
        match self {
            Self::Number(number) => number.try_into().ok(),
            Self::Text(_) => None,
        }
    }
}

/// A message that came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    big: bool,
    body: Vec<u8>,
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap_or(0).to_le_bytes()
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    bytes.extend(length(text));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// A method call; arguments are strings.
pub(super) fn call(
    serial: u32,
    to: &str,
    path: &str,
    interface: &str,
    member: &str,
    arguments: &[&str],
) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|text| string(&mut body, text));
    // Little-endian, a method call, which starts nobody (NO_AUTO_START), version 1.
    let mut bytes = vec![b'l', 1, 2, 1];
    bytes.extend(u32::try_from(body.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(serial.to_le_bytes());
    let mut fields = Vec::new();
    for (code, kind, text) in [(1, b'o', path), (2, b's', interface), (3, b's', member), (6, b's', to)] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        string(&mut fields, text);
    }
    if !arguments.is_empty() {
        pad(&mut fields, 8);
        fields.extend([8, 1, b'g', 0, u8::try_from(arguments.len()).unwrap_or(0)]);
        fields.extend(std::iter::repeat_n(b's', arguments.len()));
        fields.push(0);
    }
    bytes.extend(u32::try_from(fields.len()).unwrap_or(0).to_le_bytes());
    bytes.extend(fields);
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

/// Reads from the front, at positions that are aligned as in the message.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, align: usize) -> Option<&'a [u8]> {
        let from = self.at.checked_next_multiple_of(align)?;
        let to = from.checked_add(count)?;
        self.at = to;
        self.bytes.get(from..to)
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = *self.take(4, 4)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(&mut self) -> Option<u64> {
        let bytes = *self.take(8, 8)?.first_chunk()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = self.take(length.checked_add(1)?, 1)?;
        std::str::from_utf8(text.get(..length)?).ok()
    }

    /// A signature of one type.
    fn signature(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1, 1)?.first()?);
        self.take(length + 1, 1)?.get(..length)
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.signature()? {
            b"s" | b"o" => Value::Text(self.text()?.to_owned()),
            b"g" => Value::Text(String::from_utf8_lossy(self.signature()?).into_owned()),
            b"u" | b"b" => Value::Number(i64::from(self.u32()?)),
            b"i" => Value::Number(i64::from(self.u32()?.cast_signed())),
            b"t" => Value::Number(i64::try_from(self.u64()?).ok()?),
            b"x" => Value::Number(self.u64()?.cast_signed()),
            b"y" => Value::Number(i64::from(*self.take(1, 1)?.first()?)),
            _ => return None,
        })
    }
}

/// Bytes that follow the first sixteen of a message.
pub(super) fn rest(head: &[u8]) -> Option<usize> {
    let big = match head.first()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    let mut cursor = Cursor { bytes: head, at: 4, big };
    let body = usize::try_from(cursor.u32()?).ok()?;
    cursor.u32()?;
    let fields = usize::try_from(cursor.u32()?).ok()?.checked_next_multiple_of(8)?;
    body.checked_add(fields)
}

/// A whole message.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let big = bytes.first() == Some(&b'B');
    let mut cursor = Cursor { bytes, at: 4, big };
    let body = usize::try_from(cursor.u32()?).ok()?;
    cursor.u32()?;
    let fields = usize::try_from(cursor.u32()?).ok()?;
    let end = cursor.at.checked_add(fields)?;
    let mut reply = None;
    while cursor.at < end {
        let code = *cursor.take(1, 8)?.first()?;
        let value = cursor.value()?;
        if let (5, Value::Number(serial)) = (code, value) {
            reply = u32::try_from(serial).ok();
        }
    }
    let kind = match (bytes.get(1)?, reply) {
        (2, Some(serial)) => Kind::Answer(serial),
        (3, Some(serial)) => Kind::Refusal(serial),
        _ => Kind::Other,
    };
    Some(Message { kind, big, body: cursor.take(body, 8)?.to_vec() })
}

impl Message {
    /// The variant that it carries, if it is of a type that is asked for.
    pub(super) fn value(&self) -> Option<Value> {
        Cursor { bytes: &self.body, at: 0, big: self.big }.value()
    }
}
