//! How fast packets leave: as a queue of the path would take them.

use std::time::Duration;

/// How fast a flight goes on once its burst is out, bytes a millisecond: 10 Mbit/s.
const BYTES_PER_MS: u32 = 1_250;

/// From this size on a link is faster by as much as its packets are larger.
const LARGE: u32 = 16_000;

/// What a packet takes up of a queue, bytes.
pub(super) fn weight(size: u32) -> u32 {
    size.min(LARGE)
}

/// Bytes that leave a queue within a time.
pub(super) fn drained(time: Duration) -> u32 {
    let bytes = time.as_micros().saturating_mul(u128::from(BYTES_PER_MS)) / 1000;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// What may still lie in a queue of the path that is emptied so slowly.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: u32,
    at: Duration,
}

impl Backlog {
    /// A packet leaves at `now`, and with it `in_flight` bytes by their weight are on their way: what was answered or given
    /// up has left every queue. Returns the pause after which there is room for another, where a queue holds `burst` bytes.
    pub(super) fn send(&mut self, size: u32, now: Duration, in_flight: u32, burst: u32) -> Duration {
        let left = self.bytes.saturating_sub(drained(now.saturating_sub(self.at)));
        *self = Self { bytes: (left + weight(size)).min(in_flight), at: now };
        let over = u64::from(self.bytes.saturating_sub(burst));
        Duration::from_micros(over * 1000 / u64::from(BYTES_PER_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_takes_a_burst_and_then_as_much_as_leaves_it() {
        let ms = Duration::from_millis;
        let mut backlog = Backlog::default();
        assert_eq!(backlog.send(1250, ms(0), 1250, 2500), ms(0));
        assert_eq!(backlog.send(1250, ms(0), 2500, 2500), ms(0));
        assert_eq!(backlog.send(1250, ms(0), 3750, 2500), ms(1));
        assert_eq!(backlog.send(1250, ms(1), 5000, 2500), ms(1));
        // A pause empties it, and so does an answer.
        assert_eq!(backlog.send(1250, ms(3), 6250, 2500), ms(0));
        assert_eq!(backlog.send(1250, ms(3), 1250, 1250), ms(0));
    }
}
