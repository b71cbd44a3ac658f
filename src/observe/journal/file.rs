//! One journal file: header, objects, and the lists of entries that each value of a field has.
//!
//! Everything is read with pread(2) in blocks, nothing is mapped: a file that is truncated meanwhile is an error and
//! no SIGBUS. Every offset is checked against the length; chains only go forward or are counted. A file in which
//! something does not add up gives what can still be read.
//!
//! Source: systemd's documentation, "Journal File Format", and `journal-def.h`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;
/// Blocks that are held.
const BLOCKS: u64 = 64;
/// Most fields, values of a field and arrays in a chain that are followed.
const MOST_STEPS: usize = 1 << 20;
/// Consecutive entries that are too old before the walk back ends: the clock may have been set.
const OLD_ENOUGH: usize = 64;

/// Object types.
const DATA: u8 = 1;
const FIELD: u8 = 2;
const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

/// Features without which a file cannot be read: XZ 1, LZ4 2, keyed hash 4, ZSTD 8, compact 16.
const KNOWN_FEATURES: u32 = 31;
const COMPACT: u32 = 16;
/// State of a file that was rotated away.
const ARCHIVED: u8 = 2;

/// An open journal file.
#[derive(Debug)]
pub(super) struct JournalFile {
    file: File,
    len: u64,
    compact: bool,
    header_size: u64,
    fields: (u64, u64),
    /// Of the newest entry, microseconds since 1970.
    pub(super) newest_us: u64,
    /// How many entries there are.
    pub(super) entries: u64,
    /// Whether it is never written to again.
    pub(super) archived: bool,
    /// The first list of all entries.
    first_list: u64,
    blocks: BTreeMap<u64, (u64, Vec<u8>)>,
}

/// A value of a field: where its entries are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    first: u64,
    arrays: u64,
    count: u64,
}

/// A data object: what is known of it before its payload is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    /// 1 XZ, 2 LZ4, 4 ZSTD.
    pub(super) compression: u8,
    payload: u64,
    /// Bytes of the payload as stored.
    pub(super) len: u64,
    value: Value,
    next_of_field: u64,
}

impl Data {
    /// Whether other entries share it.
    pub(super) fn is_shared(&self) -> bool {
        self.value.count > 1
    }
}

/// A place in the list of all entries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    /// The part of the list, 0 before the first; and in it the next entry.
    list: u64,
    item: u64,
    /// Entries before it.
    passed: u64,
}

/// An entry without its fields.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Microseconds since 1970.
    pub(super) realtime_us: u64,
    pub(super) boot_id: [u8; 16],
    at: u64,
    size: u64,
}

/// Entries of one value.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Realtime and place.
    pub(super) entries: Vec<(u64, u64)>,
    /// Whether there were more than were wanted.
    pub(super) cut: bool,
    /// The first thing that could not be read.
    pub(super) damage: Option<io::Error>,
}

fn odd(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(bytes: &[u8], at: usize) -> io::Result<u64> {
    let bytes =
        bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or_else(|| odd("an object is too short"))?;
    Ok(u64::from_le_bytes(*bytes))
}

impl JournalFile {
    /// Reads the header.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` for what is no journal, or one of a newer kind.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let mut this = Self {
            file,
            len: 0,
            compact: false,
            header_size: 0,
            fields: (0, 0),
            newest_us: 0,
            entries: 0,
            archived: false,
            first_list: 0,
            blocks: BTreeMap::new(),
        };
        this.refresh()?;
        Ok(this)
    }

    /// Reads the header again, and forgets the blocks that are held: others may have written to the file.
    ///
    /// # Errors
    /// As [`JournalFile::open`].
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.blocks.clear();
        self.len = self.file.metadata()?.len();
        let header = self.read(0, 208).map_err(|_| odd("it is shorter than a journal's header"))?;
        if header.get(..8) != Some(b"LPKSHHRH") {
            return Err(odd("it is no journal file"));
        }
        let features = u32::try_from(number(&header, 8)? >> 32).unwrap_or(u32::MAX);
        if features & !KNOWN_FEATURES != 0 {
            return Err(odd("it needs a feature that is not known here"));
        }
        self.compact = features & COMPACT != 0;
        self.archived = header.get(16) == Some(&ARCHIVED);
        self.header_size = number(&header, 88)?;
        self.fields = (number(&header, 120)?, number(&header, 128)?);
        self.entries = number(&header, 152)?;
        self.first_list = number(&header, 176)?;
        self.newest_us = number(&header, 192)?;
        if self.header_size < 208 || self.header_size > self.len {
            return Err(odd("its header is damaged"));
        }
        Ok(())
    }

    /// The place of the entry behind `position` in the list of all, which is brought forward; `None` at its end.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` where the list is damaged: the position stays.
    pub(super) fn next(&mut self, position: &mut Position) -> io::Result<Option<u64>> {
        if position.passed >= self.entries {
            return Ok(None);
        }
        let width = if self.compact { 4 } else { 8 };
        let mut at = if position.list == 0 { self.first_list } else { position.list };
        loop {
            let (bytes, size) = self.object(at, ENTRY_ARRAY, 24)?;
            let holds = (size - 24) / width;
            if position.item < holds {
                let place = self.item(at + 24 + position.item * width)?;
                position.list = at;
                position.item += 1;
                position.passed += 1;
                return Ok(Some(place));
            }
            let after = number(&bytes, 16)?;
            if after <= at {
                return Err(odd("the list of entries ends early"));
            }
            position.item -= holds;
            at = after;
            position.list = at;
        }
    }

    /// The position behind the newest entry.
    ///
    /// # Errors
    /// As [`JournalFile::next`].
    pub(super) fn end(&mut self) -> io::Result<Position> {
        // One before the end, so that a damaged list shows now.
        let Some(last) = self.entries.checked_sub(1) else { return Ok(Position::default()) };
        let mut position = Position { list: 0, item: last, passed: last };
        self.next(&mut position)?;
        Ok(position)
    }

    /// Exactly `count` bytes.
    fn read(&mut self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let end = u64::try_from(count).ok().and_then(|n| at.checked_add(n)).filter(|end| *end <= self.len);
        let end =
            end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "an offset is past the end"))?;
        let block = at / BLOCK as u64;
        if end > (block + 1) * BLOCK as u64 {
            let mut bytes = vec![0; count];
            self.file.read_exact_at(&mut bytes, at)?;
            return Ok(bytes);
        }
        if self.blocks.get(&(block % BLOCKS)).is_none_or(|(number, _)| *number != block) {
            let start = block * BLOCK as u64;
            let size = usize::try_from(self.len - start).map_or(BLOCK, |left| left.min(BLOCK));
            let mut bytes = vec![0; size];
            self.file.read_exact_at(&mut bytes, start)?;
            self.blocks.insert(block % BLOCKS, (block, bytes));
        }
        let held = self.blocks.get(&(block % BLOCKS)).map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
        let from = usize::try_from(at % BLOCK as u64).unwrap_or(BLOCK);
        Ok(held.get(from..from + count).ok_or_else(|| odd("an offset is past the end"))?.to_vec())
    }

    /// The first `count` bytes of an object of that type, and its size.
    fn object(&mut self, at: u64, kind: u8, count: usize) -> io::Result<(Vec<u8>, u64)> {
        if at < self.header_size || !at.is_multiple_of(8) {
            return Err(odd("an offset leads to no object"));
        }
        let bytes = self.read(at, count)?;
        let size = number(&bytes, 8)?;
        let fits = size >= count as u64 && at.checked_add(size).is_some_and(|end| end <= self.len);
        if bytes.first() != Some(&kind) || !fits {
            return Err(odd("an object is damaged"));
        }
        Ok((bytes, size))
    }

    /// The data object at that place.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` where there is none.
    pub(super) fn data(&mut self, at: u64) -> io::Result<Data> {
        let head = if self.compact { 72 } else { 64 };
        let (bytes, size) = self.object(at, DATA, head)?;
        Ok(Data {
            compression: bytes.get(1).copied().unwrap_or_default() & 7,
            payload: at + head as u64,
            len: size - head as u64,
            value: Value {
                first: number(&bytes, 40)?,
                arrays: number(&bytes, 48)?,
                count: number(&bytes, 56)?,
            },
            next_of_field: number(&bytes, 32)?,
        })
    }

    /// The first bytes of a payload as stored, `most` at most.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn payload(&mut self, data: &Data, most: usize) -> io::Result<Vec<u8>> {
        self.read(data.payload, usize::try_from(data.len).map_or(most, |len| len.min(most)))
    }

    /// The values of a field that are wanted; with what stopped the search early.
    pub(super) fn values(
        &mut self,
        field: &str,
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> (Vec<Value>, Option<io::Error>) {
        let mut found = Vec::new();
        let result = self.field(field).and_then(|mut next| {
            let prefix = field.len() + 1;
            for _ in 0..MOST_STEPS {
                if next == 0 {
                    return Ok(());
                }
                let data = self.data(next)?;
                // Names of units and transports are never so long that they would be packed.
                if data.compression == 0 && data.len < 512 {
                    let payload = self.payload(&data, 512)?;
                    if payload.get(prefix..).is_some_and(wanted) {
                        found.push(data.value);
                    }
                }
                next = data.next_of_field;
            }
            Err(odd("a field has too many values"))
        });
        (found, result.err())
    }

    /// Where the values of a field begin, 0 when no entry has it. All fields are looked through: there are few, and no
    /// hash has to be known.
    fn field(&mut self, name: &str) -> io::Result<u64> {
        let (table, size) = self.fields;
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= MOST_STEPS)
            .ok_or_else(|| odd("its header is damaged"))?;
        let buckets = self.read(table, size)?;
        let mut steps = 0;
        for bucket in buckets.chunks_exact(16) {
            let mut next = number(bucket, 0)?;
            while next != 0 {
                let (bytes, size) = self.object(next, FIELD, 40)?;
                if size - 40 == name.len() as u64 && self.read(next + 40, name.len())? == name.as_bytes() {
                    return number(&bytes, 32);
                }
                next = number(&bytes, 24)?;
                steps += 1;
                if steps > MOST_STEPS {
                    return Err(odd("its table of fields is damaged"));
                }
            }
        }
        Ok(0)
    }

    /// The newest entries of a value, newest first: of that time or later, `most` of them.
    pub(super) fn newest(&mut self, value: &Value, since_us: u64, most: usize) -> Found {
        let mut found = Found::default();
        let arrays = self.arrays(value, &mut found.damage);
        let width = if self.compact { 4_u64 } else { 8 };
        let mut old = 0;
        let places =
            arrays.into_iter().rev().flat_map(|(at, count)| (0..count).rev().map(move |i| at + i * width));
        for place in places.map(Some).chain([None]) {
            let entry = match place.map_or(Ok(value.first), |place| self.item(place)) {
                Ok(0) => continue,
                Ok(at) => self.entry(at),
                Err(error) => Err(error),
            };
            match entry {
                Ok(entry) if entry.realtime_us < since_us => {
                    old += 1;
                    if old > OLD_ENOUGH {
                        break;
                    }
                }
                Ok(_) if found.entries.len() == most => {
                    found.cut = true;
                    break;
                }
                Ok(entry) => {
                    old = 0;
                    found.entries.push((entry.realtime_us, entry.at));
                }
                Err(error) => {
                    found.damage.get_or_insert(error);
                }
            }
        }
        found
    }

    fn item(&mut self, at: u64) -> io::Result<u64> {
        if self.compact {
            let bytes = self.read(at, 4)?;
            return Ok(bytes.first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes))));
        }
        number(&self.read(at, 8)?, 0)
    }

    /// The arrays of a value: where their items begin, and how many there are.
    fn arrays(&mut self, value: &Value, damage: &mut Option<io::Error>) -> Vec<(u64, u64)> {
        let width = if self.compact { 4 } else { 8 };
        let mut arrays = Vec::new();
        let mut left = value.count.saturating_sub(1);
        let mut next = value.arrays;
        while next != 0 && left > 0 {
            match self.object(next, ENTRY_ARRAY, 24).and_then(|(bytes, size)| Ok((number(&bytes, 16)?, size)))
            {
                Ok((after, size)) => {
                    let count = left.min((size - 24) / width);
                    arrays.push((next + 24, count));
                    left -= count;
                    // Arrays are appended: one that leads back is damaged, and might go in circles.
                    if after != 0 && after <= next {
                        damage.get_or_insert(odd("a list of entries leads back"));
                        break;
                    }
                    next = after;
                }
                Err(error) => {
                    damage.get_or_insert(error);
                    break;
                }
            }
        }
        arrays
    }

    /// The entry at that place.
    ///
    /// # Errors
    /// The kernel's; `InvalidData` where there is none.
    pub(super) fn entry(&mut self, at: u64) -> io::Result<Entry> {
        let (bytes, size) = self.object(at, ENTRY, 64)?;
        let boot_id =
            bytes.get(40..56).and_then(|id| id.first_chunk()).ok_or_else(|| odd("an entry is too short"))?;
        Ok(Entry { realtime_us: number(&bytes, 24)?, boot_id: *boot_id, at, size })
    }

    /// Where the fields of an entry are.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn items(&mut self, entry: &Entry) -> io::Result<Vec<u64>> {
        let bytes = self.read(entry.at + 64, usize::try_from(entry.size - 64).unwrap_or(0).min(16 << 10))?;
        if self.compact {
            let item = |b: &[u8]| b.first_chunk().map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
            return Ok(bytes.chunks_exact(4).map(item).collect());
        }
        bytes.chunks_exact(16).map(|item| number(item, 0)).collect()
    }
}
