//! The loop: every handle and the stop signal in one poll, packets by time into the output.

use super::open::{LAST_BLOCK, Point, READ_TIMEOUT};
use super::order::Order;
use super::output::{Output, Packet, Seen, since_1970};
use super::room::Room;
use super::sink::{Halt, SinkError};
use crate::facts::CapturePoint;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// Packets taken from one handle before the others have their turn.
const BATCH: u64 = 256;
/// How often counters are read, files are flushed and progress is told.
const TICK: Duration = Duration::from_secs(1);
/// How often an interface that has gone is looked for.
const RETURN: Duration = Duration::from_millis(50);
/// How often packets that waited for older ones are handed over.
const RELEASE: Duration = Duration::from_millis(25);

/// When a capture ends by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// After so many packets of all points together.
    pub count: Option<u64>,
    /// After so long.
    pub duration: Option<Duration>,
    /// How long it goes on after what was waited for was seen.
    pub tail: Duration,
    /// An interface that goes away is waited for, instead of ending its point.
    pub wait: bool,
}

/// What has been done so far, told once a second.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Packets captured.
    pub packets: u64,
    /// Packets dropped by the kernel.
    pub dropped: u64,
    /// Since the beginning.
    pub elapsed: Duration,
}

/// Why a capture ended.
#[derive(Debug)]
pub enum End {
    /// The count was reached.
    Count,
    /// The duration was over.
    Duration,
    /// A signal came.
    Stopped,
    /// What was waited for was seen.
    Seen(Seen),
    /// The disk has no more room than is to stay free.
    DiskLow(Room),
    /// No interface is left.
    InterfacesGone,
    /// The output failed.
    Output(SinkError),
}

/// What was captured.
#[derive(Debug)]
pub struct Summary {
    /// Packets of all points together; those that a failed output lost are not among them.
    pub packets: u64,
    /// Each point.
    pub points: Vec<CapturePoint>,
    /// Files of a ring that are there.
    pub files: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// Why it ended.
    pub end: End,
}

/// Captures on `points` into `output` until a limit is reached, `stop` becomes readable (it is never read),
/// every interface has gone or the output fails. What was captured is written and counted in each case.
pub fn run(
    mut points: Vec<Point>,
    mut output: Output,
    limits: Limits,
    stop: BorrowedFd<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Summary {
    let start = Instant::now();
    let deadline = limits.duration.and_then(|d| start.checked_add(d));
    let mut run = Loop {
        order: (points.len() > 1).then(|| Order::new(points.len())),
        halt: Halt { stop, deadline },
        idle: Vec::new(),
        left: limits.count.unwrap_or(u64::MAX),
        cutoff_ns: u64::MAX,
        tail: limits.tail,
        wait: limits.wait,
        seen_ends: None,
        start,
        asked: start,
        ticked: start,
        released: start,
    };
    let mut end = match run.turn_until_end(&mut points, &mut output, progress) {
        Ok(end) => end,
        Err(error) => End::Output(error),
    };
    if !is_drained(&end) {
        points.iter_mut().for_each(Point::count);
    }
    let mut packets = output.packets;
    if !matches!(end, End::Output(SinkError::ReaderGone | SinkError::Stalled { .. })) {
        // The statistics are tried even when the disk is full: cutting the last packet made some room.
        let last = output.end(&points, run.halt);
        if let (Err(error), false) = (last, matches!(end, End::Output(_))) {
            end = End::Output(error);
        }
    }
    if let End::Output(SinkError::Io { lost_packets, .. }) = &end {
        packets = packets.saturating_sub(*lost_packets);
    }
    for point in &mut points {
        // It did not come back while we waited.
        if let Some(reason) = point.away.take() {
            point.facts.ended = Some(reason);
        }
    }
    let files = output.files();
    Summary {
        files,
        packets,
        points: points.into_iter().map(|p| p.facts).collect(),
        elapsed: start.elapsed(),
        end,
    }
}

/// Whether what is still in the kernel belongs to the capture, up to the moment of its end. Not where the disk has
/// no more room for us: a kernel buffer may hold more than what was to stay free.
fn is_drained(end: &End) -> bool {
    matches!(end, End::Duration | End::Stopped | End::Seen(_))
}

struct Loop<'a> {
    /// Only with several points.
    order: Option<Order>,
    halt: Halt<'a>,
    /// Points that had nothing when they were last asked for; those that are not in it are unknown.
    idle: Vec<bool>,
    /// Packets that may still come.
    left: u64,
    /// Packets after this time came too late.
    cutoff_ns: u64,
    /// How long it goes on after what was waited for was seen.
    tail: Duration,
    /// An interface that goes away is waited for.
    wait: bool,
    /// Until then it goes on because of that.
    seen_ends: Option<Instant>,
    start: Instant,
    asked: Instant,
    ticked: Instant,
    released: Instant,
}

/// What a look at every handle gave.
struct Turn {
    /// Any packet at all.
    any: bool,
    /// A handle had more than its turn.
    more: bool,
}

impl Loop<'_> {
    fn turn_until_end(
        &mut self,
        points: &mut [Point],
        output: &mut Output,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<End, SinkError> {
        output.begin(points, self.halt)?;
        let mut more = false;
        let end = loop {
            match self.wait(points, output, more) {
                Woken::Stop => break self.stopped(output),
                Woken::ReaderGone => return Err(SinkError::ReaderGone),
                Woken::Look => {}
            }
            let turn = self.look(points, output)?;
            more = turn.more;
            if points.iter().all(|p| p.facts.ended.is_some()) {
                break End::InterfacesGone;
            }
            let now = Instant::now();
            let tick = now.duration_since(self.ticked) >= TICK;
            if tick {
                self.ticked = now;
                points.iter_mut().for_each(Point::count);
                // What passed no filter has been read by now; a clock that is set back must not make more of it.
                points.iter_mut().for_each(|p| p.since_ns = 0);
                output.note(points);
                let dropped = points.iter().filter_map(|p| p.facts.dropped).sum();
                progress(Progress { packets: output.packets, dropped, elapsed: now - self.start });
            }
            if points.iter().any(|p| p.away.is_some()) && now.duration_since(self.asked) >= RETURN {
                self.asked = now;
                self.welcome(points, output);
            }
            if self.order.is_some() && now.duration_since(self.released) >= RELEASE {
                self.released = now;
                let due = self.order.as_ref().map_or(0, |o| o.due(since_1970(SystemTime::now())));
                self.release(points, output, due)?;
            }
            if self.left == 0 {
                break End::Count;
            }
            if tick || !turn.any || (!more && output.is_live()) {
                output.flush(self.halt)?;
            }
            if let Some(room) = output.low() {
                break End::DiskLow(room);
            }
            if output.seen().is_some() && self.seen_ends.is_none() {
                let end = now + self.tail;
                self.seen_ends = Some(end);
                self.halt.deadline = Some(self.halt.deadline.map_or(end, |d| d.min(end)));
            }
        };
        if is_drained(&end) {
            self.cutoff_ns = since_1970(SystemTime::now());
            // Now, not after the wait: what comes meanwhile is not the capture's.
            points.iter_mut().for_each(Point::count);
            self.drain(points, output)?;
        }
        self.release(points, output, u64::MAX)?;
        Ok(end)
    }

    /// The last block of the ring is handed over only when it is full or a read timeout has passed: waits for
    /// that, and leaves out what was sent after the end.
    fn drain(&mut self, points: &mut [Point], output: &mut Output) -> Result<(), SinkError> {
        let until = Instant::now() + LAST_BLOCK;
        self.idle.clear();
        loop {
            let over = Instant::now() >= until;
            let turn = self.look(points, output)?;
            let done = self.left == 0 || output.low().is_some();
            if done || (over && !turn.more) || Instant::now() >= until + TICK {
                return Ok(());
            }
            if !turn.more {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Why it is woken to end.
    fn stopped(&self, output: &Output) -> End {
        match output.seen() {
            Some(seen) if self.seen_ends.is_some_and(|end| Instant::now() >= end) => End::Seen(seen.clone()),
            _ if self.timed_out() => End::Duration,
            _ => End::Stopped,
        }
    }

    /// Goes on where an interface has come back.
    fn welcome(&self, points: &mut [Point], output: &mut Output) {
        let mut any = false;
        for point in points.iter_mut().filter(|p| p.away.is_some()) {
            if point.come_back() {
                point.facts.returned += 1;
                any = true;
            }
        }
        if any {
            output.changed(points);
        }
    }

    fn timed_out(&self) -> bool {
        self.halt.deadline.is_some_and(|d| Instant::now() >= d)
    }

    /// Waits for packets, the end, or the reader's going; at most one read timeout.
    fn wait(&mut self, points: &[Point], output: &Output, more: bool) -> Woken {
        let stop = PollFd::new(self.halt.stop, PollFlags::POLLIN);
        // Nothing is asked of the stream: POLLERR and POLLHUP come by themselves when the reader goes.
        let stream = output.watched();
        let watched = PollFd::new(stream.unwrap_or(self.halt.stop), PollFlags::empty());
        // A handle whose interface has gone is always in error: polled, it would never let us wait.
        let ending = points.iter().any(|p| p.ending.is_some());
        let open = points.iter().filter(|p| is_polled(p) && !more);
        // In a flood there is nothing to wait for and nothing to gather: no allocation then.
        let mut few = [stop.clone(), watched.clone()];
        let mut all = Vec::new();
        let fds: &mut [PollFd<'_>] = if more {
            &mut few
        } else {
            all.extend([stop, watched]);
            all.extend(open.map(|p| PollFd::new(p.handle.as_fd(), PollFlags::POLLIN)));
            &mut all
        };
        let mut timeout = match (more, ending) {
            (true, _) => Duration::ZERO,
            (_, true) => READ_TIMEOUT / 10,
            _ => READ_TIMEOUT,
        };
        if let Some(deadline) = self.halt.deadline {
            timeout = timeout.min(deadline.saturating_duration_since(Instant::now()));
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        self.idle.clear();
        match poll(fds, timeout) {
            // Of many handles few have something: the others cost no call.
            Ok(1..) if !more => {
                self.idle.resize(points.len(), false);
                let polled = points.iter().zip(&mut self.idle).filter(|(p, _)| is_polled(p));
                for ((_, idle), fd) in polled.zip(fds.iter().skip(2)) {
                    *idle = fd.revents().is_some_and(|events| events.is_empty());
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            // Not enough memory for the call: look anyway, a moment later.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        let set = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
        if set(fds.first()) || self.timed_out() {
            Woken::Stop
        } else if stream.is_some() && set(fds.get(1)) {
            Woken::ReaderGone
        } else {
            Woken::Look
        }
    }

    /// Whether the kernel has just said that a point has nothing.
    fn is_idle(&self, number: usize) -> bool {
        self.idle.get(number).copied().unwrap_or(false)
    }

    /// Takes a batch from every handle that may have something.
    fn look(&mut self, points: &mut [Point], output: &mut Output) -> Result<Turn, SinkError> {
        let mut turn = Turn { any: false, more: false };
        for (number, point) in points.iter_mut().enumerate() {
            let asked = point.facts.ended.is_none() && point.away.is_none() && self.left > 0;
            let taken = if asked && !self.is_idle(number) { self.take(number, point, output)? } else { 0 };
            turn.any |= taken > 0;
            turn.more |= taken >= BATCH;
            if let Some(order) = &mut self.order {
                order.set_behind(number, taken >= BATCH);
            }
        }
        // Order gives way to memory: the oldest go.
        if let Some(half) = self.order.as_ref().filter(|o| o.is_full()).map(Order::half) {
            self.release(points, output, half)?;
        }
        Ok(turn)
    }

    /// Takes at most a batch of packets from one handle.
    fn take(&mut self, number: usize, point: &mut Point, output: &mut Output) -> Result<u64, SinkError> {
        // Several points: a count takes the oldest packets, which are known only once they are in order.
        let limit = if self.order.is_some() { BATCH } else { BATCH.min(self.left) };
        let limit = usize::try_from(limit).unwrap_or(1);
        let (halt, order) = (self.halt, &mut self.order);
        let wanted_ns = point.since_ns..=self.cutoff_ns;
        let (mut captured, mut failed) = (0u64, None);
        let result = point.handle.dispatch(Some(limit), |raw| {
            // With nanosecond precision tv_usec holds nanoseconds.
            let seconds = u64::try_from(raw.header.ts.tv_sec).unwrap_or(0);
            let time_ns = seconds * 1_000_000_000 + u64::try_from(raw.header.ts.tv_usec).unwrap_or(0);
            if !wanted_ns.contains(&time_ns) || failed.is_some() {
                return;
            }
            captured += 1;
            let packet = Packet { point: number, time_ns, wire_len: raw.header.len, data: raw.data };
            match order {
                Some(order) => order.push(&packet),
                None => failed = output.packet(&packet, halt).err(),
            }
        });
        if self.order.is_none() {
            point.facts.captured += captured;
            self.left -= captured;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let taken = match result {
            Ok(taken) => u64::try_from(taken).unwrap_or(0),
            Err(error) => {
                // Its last block is still to come.
                let reason = || (Instant::now() + LAST_BLOCK, super::filter::message_of(&error));
                point.ending.get_or_insert_with(reason);
                0
            }
        };
        if taken == 0
            && let Some((_, reason)) = point.ending.take_if(|(until, _)| Instant::now() >= *until)
        {
            point.count();
            if self.wait {
                point.away = Some(reason);
            } else {
                point.facts.ended = Some(reason);
            }
        }
        Ok(taken)
    }

    /// Hands over the packets that waited for older ones; a count limit takes the oldest.
    fn release(&mut self, points: &mut [Point], output: &mut Output, until_ns: u64) -> Result<(), SinkError> {
        let Some(order) = &mut self.order else { return Ok(()) };
        let (halt, left) = (self.halt, &mut self.left);
        order.release(until_ns, |packet| {
            if *left == 0 {
                return Ok(false);
            }
            *left -= 1;
            if let Some(point) = points.get_mut(packet.point) {
                point.facts.captured += 1;
            }
            output.packet(packet, halt)?;
            Ok(*left > 0)
        })
    }
}

/// Whether its handle is waited on: one whose interface has gone is always in error.
fn is_polled(point: &Point) -> bool {
    point.facts.ended.is_none() && point.ending.is_none() && point.away.is_none()
}

enum Woken {
    Stop,
    ReaderGone,
    Look,
}
