//! Which lines can be passed over at once: one walk over the line instead of one for each pattern.
//!
//! Of each pattern eight bytes that must be in the line are looked for. Fifty searches in each of a hundred thousand
//! lines took twice as long as reading them.

use super::table::PATTERNS;
use std::sync::LazyLock;

/// log2 of the bits in the map.
const BITS: u32 = 16;

struct Sieve {
    /// A bit for each hash of a piece.
    map: Vec<u64>,
    /// The pieces, sorted.
    pieces: Vec<u64>,
}

static SIEVE: LazyLock<Sieve> = LazyLock::new(|| {
    let mut pieces: Vec<u64> = PATTERNS.iter().filter_map(|pattern| piece(pattern.has)).collect();
    pieces.sort_unstable();
    pieces.dedup();
    let mut map = vec![0; 1 << (BITS - 6)];
    for piece in &pieces {
        let (word, bit) = place(*piece);
        if let Some(word) = map.get_mut(word) {
            *word |= 1 << bit;
        }
    }
    Sieve { map, pieces }
});

/// From the end of its longest part, across two words: beginnings ("Failed to …") and single words ("container") are what
/// lines have in common.
fn piece(has: &[&str]) -> Option<u64> {
    let longest = has.iter().max_by_key(|part| part.len())?.as_bytes();
    let two_words = |bytes: &&[u8; 8]| bytes[3] == b' ' || bytes[4] == b' ';
    let mut pieces = longest.windows(8).filter_map(<[u8]>::first_chunk);
    pieces.rfind(two_words).or_else(|| longest.last_chunk()).map(|bytes| u64::from_le_bytes(*bytes))
}

/// Word and bit of the map.
fn place(piece: u64) -> (usize, u32) {
    // Fibonacci hashing: the upper bits of a product with 2^64 over the golden ratio.
    let hash = piece.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS);
    (usize::try_from(hash >> 6).unwrap_or(0), u32::try_from(hash & 63).unwrap_or(0))
}

/// Whether some pattern may fit; false is certain.
pub(super) fn may_fit(text: &str) -> bool {
    let sieve = &*SIEVE;
    text.as_bytes().windows(8).filter_map(<[u8]>::first_chunk).any(|bytes| {
        let piece = u64::from_le_bytes(*bytes);
        let (word, bit) = place(piece);
        sieve.map.get(word).is_some_and(|word| word >> bit & 1 == 1)
            && sieve.pieces.binary_search(&piece).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_pattern_wants_falls_through() {
        for pattern in PATTERNS {
            assert!(piece(pattern.has).is_some(), "{:?}: one part must have eight bytes", pattern.has);
            let line = pattern.has.join(" and some words ");
            for line in [line.clone(), format!("E1125 {line} more"), format!("é{line}")] {
                assert!(may_fit(&line), "{line}");
            }
        }
    }

    #[test]
    fn lines_of_no_interest_do() {
        for line in
            ["", "short", "I1125 14:03:05.1 610 flags.go:64] FLAG: --address=\"0.0.0.0\"", &"x".repeat(9000)]
        {
            assert!(!may_fit(line), "{line}");
        }
    }
}
