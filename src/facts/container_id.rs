//! Ids that runtimes give to sandboxes and containers.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::fmt;

/// An id as host-local and runtimes write it.
///
/// 64 small hexadecimal digits, as containerd, CRI-O and cri-dockerd give, take 32 bytes and no heap of their own: the
/// range of one node can hold a hundred thousand.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Digits([u8; 32]),
    Other(Box<str>),
}

impl ContainerId {
    /// Whether it has the form that the runtimes of Kubernetes give.
    pub fn is_digits(&self) -> bool {
        matches!(self.0, Form::Digits(_))
    }

    /// Gives its text to `read`.
    pub fn with_text<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Form::Other(text) => read(text),
            Form::Digits(bytes) => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
                let mut text = [0; 64];
                for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
                    *pair = [digit(byte >> 4), digit(byte & 15)];
                }
                read(str::from_utf8(&text).unwrap_or_default())
            }
        }
    }
}

/// What 64 small hexadecimal digits stand for.
fn parse(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, &[high, low]) in bytes.iter_mut().zip(text.as_chunks().0) {
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(bytes)
}

impl From<&str> for ContainerId {
    fn from(text: &str) -> Self {
        Self(parse(text).map_or_else(|| Form::Other(text.into()), Form::Digits))
    }
}

impl From<String> for ContainerId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| fmt::Debug::fmt(text, f))
    }
}

impl Serialize for ContainerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl JsonSchema for ContainerId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_kept_and_digits_take_half() {
        let digits = "0123456789abcdef".repeat(4);
        let upper = digits.to_uppercase();
        let long = format!("{digits}0");
        let blank = format!(" {}", &digits[1..]);
        for (text, is_digits) in [
            (digits.as_str(), true),
            (&upper, false),
            (&long, false),
            (&digits[1..], false),
            (&blank, false),
            ("", false),
            ("default-web", false),
            (&"é".repeat(32), false),
        ] {
            let id = ContainerId::from(text);
            assert_eq!(
                (id.to_string().as_str(), format!("{id:?}"), id.is_digits()),
                (text, format!("{text:?}"), is_digits)
            );
            assert_eq!(serde_json::to_string(&id).unwrap(), serde_json::to_string(text).unwrap());
            assert_eq!(id, ContainerId::from(text.to_owned()));
        }
        assert_ne!(ContainerId::from(digits.as_str()), ContainerId::from(upper));
    }
}
