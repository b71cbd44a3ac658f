//! Long fields are packed: ZSTD since systemd 246, LZ4 before, XZ where that was not built in.

use std::io::{self, Read as _};

/// Largest field that is unpacked.
const MOST: usize = 4 << 20;

/// The first `most` bytes of a payload, unpacked.
///
/// # Errors
/// What is damaged; XZ, which is not read here.
pub(super) fn unpack(bytes: &[u8], compression: u8, most: usize) -> io::Result<Vec<u8>> {
    let odd = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    match compression {
        0 => Ok(bytes.get(..most).unwrap_or(bytes).to_vec()),
        2 => {
            let (size, packed) = bytes.split_first_chunk().ok_or_else(|| odd("LZ4 without a size".into()))?;
            let size = usize::try_from(u64::from_le_bytes(*size)).unwrap_or(usize::MAX);
            if size > MOST {
                return Err(odd("a field is too large".into()));
            }
            let mut whole =
                lz4_flex::block::decompress(packed, size).map_err(|error| odd(format!("LZ4: {error}")))?;
            whole.truncate(most);
            Ok(whole)
        }
        4 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(bytes)
                .map_err(|error| odd(format!("ZSTD: {error}")))?;
            let mut whole = Vec::new();
            decoder.take(most as u64).read_to_end(&mut whole)?;
            Ok(whole)
        }
        _ => Err(odd("a line is packed with XZ, which nsprobe does not read: journalctl does".into())),
    }
}
