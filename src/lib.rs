//! # The house
//!
//! `nsprobe` answers, from one root shell on a Kubernetes worker: *small packets pass, large ones hang:
//! which pod, which hop, which setting?*
//!
//! ```text
//! what the person typed ─► pods ─► netns ─► observe │ probe │ capture ─► diagnose ─► report
//!                          which    held      reads    sends    records     facts →     terminal,
//!                          pod,PID  open      facts    packets  packets     findings    JSON
//! ```
//!
//! One way, no back and forth. A room hands plain data to the next.
//!
//! | room | holds | knows |
//! |---|---|---|
//! | [`facts`] | the shared vocabulary: plain structs with units | nobody |
//! | [`netns`] | a network namespace held open by fd; work in it on threads that die | facts |
//! | [`pods`] | SOURCE → pod, containers, PID, namespace: CRI, and the disk when it hangs | facts, netns |
//! | [`observe`] | read-only: netlink and procfs | facts, netns |
//! | [`probe`] | active: the search without any I/O, the wire formats, the transports | facts, netns |
//! | [`capture`] | libpcap in, pcapng out | facts, netns |
//! | [`diagnose`] | facts → findings: pure rules with stable ids | facts |
//! | [`report`] | facts and findings → people and machines | facts, diagnose |
//! | [`cli`] | one file per command: its arguments, its steps | all |
//!
//! No other arrow; `tests/house.rs` reads the `use crate::` lines and fails on one.
//!
//! # Where the house is not built as it was drawn, and why
//!
//! - *A thread enters and dies* holds for every thread but one: a command that has nothing left to do outside
//!   (`mtu` to one target, `exec`) enters itself. On a short path a thread for each question was half the time.
//! - *Route lookups and dumps* go over the room's own netlink sockets; `rtnetlink` and its runtime are left to
//!   what is asked rarely (neighbours, after silence): starting them cost more than the answer.
//! - *Over IPv6 ask by UDP first* became scouts ([`probe::scout`]): packets of a protocol that nobody speaks. They
//!   draw the same packet-too-big, need no port that somebody would have to name, leave nothing in the kernel's
//!   cache, and the target's small error tells the way there from the way back. They carry the whole ladder, so that a black hole costs no
//!   more than over IPv4; a clear path and a PTB cost the one round trip more that comes with asking them first.
//!   Over IPv4 they are few: the size that a router named to a target that answers no echo, and one byte more; or the
//!   smallest, when nobody has said anything for a quarter of a millisecond, and with the largest later on; or two when a black
//!   hole was found, which tell it from one on the way back, along with the search for its hop. Its "protocol
//!   unreachable" confirms a size in a round trip, without a port that nobody named. UDP to some port would be answered by
//!   a few hosts more, and by any firewall that rejects: that answer does not say that the packet arrived. What
//!   a router has named, or echo replies tell afterwards, is asked for by UDP port 0 all the same
//!   ([`probe::search::Scout`]): no socket can have it, and hosts that drop strange protocols answer it.
//! - *300 kB a search, 1 MB for jumbo frames* holds up to 16,000 bytes. Above (InfiniBand, pasta's and slirp's interfaces) a
//!   megabyte is sixteen packets, which decide nothing where the gap is 64,000 bytes wide: 4 MB there.
//! - *A PTB's value is confirmed by a probe*, and by one of a byte more that must not arrive: the search for the hop
//!   sends it anyway. A router that names too little is found out even where its first word would end the flight.
//! - *The confirming flight is the last of the search*: it carries each size that is left as often as it takes to be
//!   sure, where they fit; how often that is, is reckoned over every rate of loss that the controls allow. For them to
//!   fit, the first flight goes on with rarer sizes while nothing has come back: on a short path none leaves, on a long
//!   one they cost packets and no time. A black hole takes three round trips at most and one for its hop; below what
//!   IPv6 asks of a link, and on jumbo networks, odd sizes take one more.
//! - *A target that answers no echo* may say that it does not know a protocol: where routers are silent too, the search
//!   goes on with scouts alone, and its answers, six and then one a second, are rationed as any others.
//! - *Which way a black hole is on* was told by errors, of which a host has six: over IPv4 ICMP timestamp requests ask
//!   first, whose replies are small and not rationed. Where neither is answered and the packets get as far as the last
//!   router, UDP port 0 is asked at once: small packets that are answered while large ones are not tell the way there, and
//!   only that. Else it is asked once more when another error is due.
//! - *Echo requests that are forbidden* (a word of policy for the smallest too) say nothing of other packets: scouts are sent
//!   before the target is called unreachable, and waited for a tenth of the timeout.
//! - *Controls around every size* are right while a target answers everything. Where answers are rationed
//!   ([`probe::search::AnswerLimit`], known or learned) a flight goes from large to small instead, a round trip between
//!   two packets: the largest that passes takes the one answer, tells of all that were larger, and spares the rest.
//!   Losses cost no answer, so that they are collected in the same flight.
//!   How few they are is learned where it is not known: a loss then counts only if so much time had gone by since the last
//!   answer that there was another, as the answers in a row so far prove.
//! - *A limited echo responder* is asked by ICMP timestamp requests as soon as its limit shows, if two in a row are answered:
//!   a limit is one on echo requests as a rule, and timestamp replies are small and not rationed. Such answers count where
//!   they come from as far away as echo replies do: somebody before the target may give them in its name.
//! - *Several searches at once* share the words of a router that says packet too big once a second: who met silence where
//!   another was told of that very size asks again in its turn, and is not called a black hole before.
//! - *A router may be slow* to say packet too big: a black hole stands no sooner than 12 ms and two round trips after the
//!   first packet of it left, and over IPv6 no large echo request leaves before. How slow is seen where the last router that
//!   the packets get to answers a large one that expires: then it is 6 ms and twice as long as that took. The word may come
//!   later still, while the hop is looked for: it takes the verdict back.
//! - *Queues* are those that the packets need: one of 64 kB weighs no more than 16 kB, for links that carry such packets are
//!   faster than 10 Mbit/s by as much.
//! - *A refusal by size* (destination unreachable for large packets) is a black hole that somebody owns up to: no word
//!   names a size there. Such words are as few as other errors, so that the very size is asked for once more a second
//!   later, where only larger ones have drawn one.
//! - *A reply is the truth* only until a later packet of that size draws a PTB: a tunnel over IPv6 lets the
//!   first oversize packet through while it learns. Where the sizes just below are missing, it is sent again.

pub mod capture;
pub mod cli;
pub mod diagnose;
pub mod facts;
pub mod netns;
pub mod observe;
pub mod pods;
pub mod probe;
pub mod report;
