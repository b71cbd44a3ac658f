//! An entry's fields → a line.

use super::file::{Data, JournalFile};
use super::{is_node_unit, merge, unpack};
use crate::facts::NodeLogEntry;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Most bytes of a packed line that are read.
const MOST_PACKED: usize = 4 << 20;
/// Most values that are remembered between entries.
const MOST_KNOWN: usize = 10_000;
/// No field that is looked for has a longer name.
const LONGEST_NAME: usize = 32;

/// What a field says.
#[derive(Debug, Clone)]
enum Field {
    Other,
    /// A container's output that a runtime sent to the journal: what a pod writes is none of the runtime's words.
    Container,
    Unit(Arc<str>),
    AboutUnit(Arc<str>),
    Identifier(Arc<str>),
    Transport(Arc<str>),
    Pid(Option<u32>),
    Priority(Option<u8>),
    Message(String),
}

/// Decodes the entries of one file; values that many entries share are read once.
#[derive(Debug)]
pub(super) struct Decoder {
    source: Arc<str>,
    known: HashMap<u64, Field>,
    boots: HashMap<[u8; 16], Arc<str>>,
}

impl Decoder {
    pub(super) fn new(source: Arc<str>) -> Self {
        Self { source, known: HashMap::new(), boots: HashMap::new() }
    }

    /// The line at that place; `None` when it is a container's, or claims to be about a unit and is not by systemd.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` for what is damaged.
    pub(super) fn entry(&mut self, journal: &mut JournalFile, at: u64) -> io::Result<Option<NodeLogEntry>> {
        let entry = journal.entry(at)?;
        let mut line = NodeLogEntry {
            realtime_us: entry.realtime_us,
            unit: None,
            identifier: None,
            transport: None,
            pid: None,
            priority: None,
            message: String::new(),
            boot_id: Some(self.boot(entry.boot_id)),
            source: Arc::clone(&self.source),
        };
        let mut about = None;
        let mut message: Option<io::Result<String>> = None;
        for item in journal.items(&entry)? {
            if item == 0 {
                continue;
            }
            match self.field(journal, item) {
                Ok(Field::Other) => {}
                Ok(Field::Container) => return Ok(None),
                Ok(Field::Unit(unit)) => line.unit = Some(unit),
                Ok(Field::AboutUnit(unit)) => about = Some(unit),
                Ok(Field::Identifier(name)) => line.identifier = Some(name),
                Ok(Field::Transport(name)) => line.transport = Some(name),
                Ok(Field::Pid(pid)) => line.pid = pid,
                Ok(Field::Priority(priority)) => line.priority = priority,
                Ok(Field::Message(text)) if message.is_none() => message = Some(Ok(text)),
                Ok(Field::Message(_)) => {}
                Err(error) => message = message.or(Some(Err(error))),
            }
        }
        line.message = message.unwrap_or_else(|| Ok(String::new()))?;
        let by_unit = line.unit.as_deref().is_some_and(|unit| is_node_unit(unit.as_bytes()));
        if !by_unit && !line.is_kernel() {
            // Anybody may log about a unit; systemd is process 1.
            let about = about.filter(|unit: &Arc<str>| is_node_unit(unit.as_bytes()));
            if about.is_none() || line.pid != Some(1) {
                return Ok(None);
            }
            line.unit = about;
        }
        Ok(Some(line))
    }

    fn boot(&mut self, id: [u8; 16]) -> Arc<str> {
        let hex = || id.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        Arc::clone(self.boots.entry(id).or_insert_with(hex))
    }

    fn field(&mut self, journal: &mut JournalFile, at: u64) -> io::Result<Field> {
        if let Some(field) = self.known.get(&at) {
            return Ok(field.clone());
        }
        let data = journal.data(at)?;
        let field = read(journal, &data)?;
        if data.is_shared() && !matches!(field, Field::Message(_)) {
            if self.known.len() >= MOST_KNOWN {
                self.known.clear();
            }
            self.known.insert(at, field.clone());
        }
        Ok(field)
    }
}

fn read(journal: &mut JournalFile, data: &Data) -> io::Result<Field> {
    let start = if data.compression == 0 {
        journal.payload(data, LONGEST_NAME)?
    } else {
        // Which field it is shows only once it is unpacked.
        let packed = journal.payload(data, MOST_PACKED)?;
        let whole = unpack::unpack(&packed, data.compression, merge::MOST_TEXT + LONGEST_NAME)?;
        return Ok(whole
            .strip_prefix(b"MESSAGE=")
            .map_or(Field::Other, |text| Field::Message(merge::message(text))));
    };
    let Some((name, value)) =
        start.iter().position(|byte| *byte == b'=').and_then(|at| Some((start.get(..at)?, at + 1)))
    else {
        return Ok(Field::Other);
    };
    let mut text = |most: usize| -> io::Result<String> {
        let payload = journal.payload(data, most)?;
        Ok(merge::message(payload.get(value..).unwrap_or_default()))
    };
    Ok(match name {
        b"MESSAGE" => Field::Message(text(merge::MOST_TEXT + value)?),
        b"_SYSTEMD_UNIT" => Field::Unit(text(512)?.into()),
        b"UNIT" => Field::AboutUnit(text(512)?.into()),
        b"SYSLOG_IDENTIFIER" => Field::Identifier(text(256)?.into()),
        b"_TRANSPORT" => Field::Transport(text(64)?.into()),
        b"_PID" => Field::Pid(text(64)?.parse().ok()),
        b"PRIORITY" => Field::Priority(text(64)?.parse().ok()),
        b"CONTAINER_ID" | b"CONTAINER_ID_FULL" => Field::Container,
        _ => Field::Other,
    })
}
