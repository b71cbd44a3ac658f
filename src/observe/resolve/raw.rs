//! DNS questions of any type with an EDNS size, and the little of an answer that tells how it went.

/// Type A.
pub(super) const A: u16 = 1;
/// Type AAAA.
pub(super) const AAAA: u16 = 28;
/// Type DNSKEY: the root's are the largest answer that every resolver can be asked for (RFC 4034).
pub(super) const DNSKEY: u16 = 48;

/// Where the question begins: behind a header of 12 bytes.
const HEADER: usize = 12;
/// Type OPT (RFC 6891 §6.1.2).
const OPT: u16 = 41;
/// The DO bit: signatures are wanted too (RFC 3225).
const WITH_SIGNATURES: u32 = 0x8000;

/// A question: its id, what stands in its question section, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawQuestion {
    id: u16,
    section: Vec<u8>,
    bytes: Vec<u8>,
}

/// What an answer's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawReply {
    /// RCODE, 0 to 15.
    pub code: u8,
    /// TC.
    pub truncated: bool,
}

impl RawQuestion {
    /// A question for records of type `kind` of `name` (the root: an empty text). With `edns` the answer may have
    /// that many bytes over UDP and carries signatures. `None` for what is no name.
    ///
    /// Source: RFC 1035 §4.1, RFC 6891 §6.1.
    pub fn new(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Option<Self> {
        let mut section = Vec::new();
        for label in name.strip_suffix('.').unwrap_or(name).split('.').filter(|_| !name.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            section.push(length);
            section.extend(label.as_bytes());
        }
        section.push(0);
        if section.len() > 255 {
            return None;
        }
        section.extend(kind.to_be_bytes());
        section.extend(1u16.to_be_bytes());
        let mut bytes = Vec::with_capacity(HEADER + section.len() + 11);
        bytes.extend(id.to_be_bytes());
        // Recursion desired; one question.
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        bytes.extend(&section);
        if let Some(size) = edns {
            bytes.push(0);
            bytes.extend(OPT.to_be_bytes());
            bytes.extend(size.to_be_bytes());
            bytes.extend(WITH_SIGNATURES.to_be_bytes());
            bytes.extend([0, 0]);
        }
        Some(Self { id, section, bytes })
    }

    /// What goes to the server.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads an answer; `None` when it is not one to this very question.
    ///
    /// Source: RFC 1035 §4.1.1, RFC 5452 §9, RFC 4343 (case does not matter).
    pub fn read(&self, answer: &[u8]) -> Option<RawReply> {
        let [a, b, flags, code, 0, 1] = *answer.first_chunk::<6>()? else { return None };
        let section = answer.get(HEADER..HEADER + self.section.len())?;
        let ours = u16::from_be_bytes([a, b]) == self.id && section.eq_ignore_ascii_case(&self.section);
        let is_answer = flags & 0x80 != 0;
        (ours && is_answer).then_some(RawReply { code: code & 0x0f, truncated: flags & 0x02 != 0 })
    }
}

/// The name of a code, as DNS tools print it.
///
/// Source: RFC 1035 §4.1.1, RFC 2136 §2.2.
pub(super) fn code_name(code: u8) -> String {
    match code {
        0 => "NOERROR".into(),
        1 => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        3 => "NXDOMAIN".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        other => format!("code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Packet, QTYPE, TYPE};

    #[test]
    fn another_reader_understands_the_question_and_its_size() {
        let question = RawQuestion::new(7, "web.example", A, Some(4096)).unwrap();
        let packet = Packet::parse(question.bytes()).unwrap();
        assert_eq!((packet.id(), packet.questions[0].qname.to_string()), (7, "web.example".into()));
        assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(TYPE::A));
        assert_eq!(packet.opt().unwrap().udp_packet_size, 4096);
        assert!(
            Packet::parse(RawQuestion::new(1, "", DNSKEY, None).unwrap().bytes()).unwrap().opt().is_none()
        );
    }

    #[test]
    fn only_an_answer_to_this_very_question_counts() {
        let question = RawQuestion::new(7, "web.example", A, None).unwrap();
        let mut answer = question.bytes().to_vec();
        assert_eq!(question.read(&answer), None, "the question itself is no answer");
        answer[2] |= 0x82;
        answer[3] = 0x82;
        assert_eq!(question.read(&answer), Some(RawReply { code: 2, truncated: true }));
        answer[14] = b'E';
        assert!(question.read(&answer).is_some(), "case does not matter");
        for (at, what) in [(1, "the id"), (13, "the name"), (5, "two questions")] {
            let mut other = answer.clone();
            other[at] ^= 3;
            assert_eq!(question.read(&other), None, "{what}");
        }
        for end in 0..answer.len() {
            assert_eq!(question.read(&answer[..end]), None);
        }
    }

    #[test]
    fn what_is_no_name_is_no_question() {
        for wrong in [".", "a..b", &"a".repeat(64), &"abc.".repeat(70)] {
            assert_eq!(RawQuestion::new(1, wrong, A, None), None, "{wrong}");
        }
        assert_eq!(RawQuestion::new(1, "", A, None).unwrap().bytes().len(), 12 + 1 + 4);
    }
}
