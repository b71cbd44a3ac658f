//! DNS messages: a question out, an answer in that is believed only when it answers that question.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records, IPv4.
    V4,
    /// AAAA records, IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `IPv4` or `IPv6`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn record(self) -> TYPE {
        match self {
            Self::V4 => TYPE::A,
            Self::V6 => TYPE::AAAA,
        }
    }
}

/// What a server said to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Addresses of the name, at least one.
    Addresses(Vec<IpAddr>),
    /// The name is there and has no such record.
    NoRecord,
    /// NXDOMAIN: there is no such name.
    NoSuchName,
    /// It did not fit: ask again over TCP.
    Truncated,
    /// SERVFAIL, REFUSED and the like.
    Failed(&'static str),
}

/// The question for the addresses of `name` in one family; `None` for what is no host name.
///
/// Source: RFC 1035 §4.1.
pub fn question(id: u16, name: &str, family: Family) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let record = QTYPE::TYPE(family.record());
    packet.questions.push(Question::new(Name::new(name).ok()?, record, QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().ok()
}

/// Reads an answer; `None` when it is not one to this very question.
///
/// Source: RFC 1035 §4.1, RFC 5452 §9 (what has to match).
pub fn parse_reply(bytes: &[u8], id: u16, name: &str, family: Family) -> Option<Reply> {
    let packet = Packet::parse(bytes).ok()?;
    let asked = Name::new(name).ok()?;
    let [echoed] = packet.questions.as_slice() else { return None };
    let same_question = same_name(&echoed.qname, &asked) && echoed.qtype == QTYPE::TYPE(family.record());
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !same_question {
        return None;
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Some(Reply::Truncated);
    }
    Some(match packet.rcode() {
        RCODE::NoError => match addresses(&packet, &asked, family) {
            found if found.is_empty() => Reply::NoRecord,
            found => Reply::Addresses(found),
        },
        RCODE::NameError => Reply::NoSuchName,
        RCODE::ServerFailure => Reply::Failed("SERVFAIL"),
        RCODE::Refused => Reply::Failed("REFUSED"),
        RCODE::FormatError => Reply::Failed("FORMERR"),
        RCODE::NotImplemented => Reply::Failed("NOTIMP"),
        _ => Reply::Failed("an error code"),
    })
}

/// The addresses at the end of the CNAME chain that starts at `asked`; records of other names do not count.
fn addresses(packet: &Packet<'_>, asked: &Name<'_>, family: Family) -> Vec<IpAddr> {
    let mut owner = asked;
    for _ in 0..16 {
        let next = packet.answers.iter().find_map(|record| match &record.rdata {
            RData::CNAME(target) if same_name(&record.name, owner) => Some(&target.0),
            _ => None,
        });
        match next {
            Some(name) => owner = name,
            None => break,
        }
    }
    let mut found = Vec::new();
    for record in packet.answers.iter().filter(|record| same_name(&record.name, owner)) {
        match (&record.rdata, family) {
            (RData::A(a), Family::V4) => found.push(IpAddr::from(Ipv4Addr::from(a.address))),
            (RData::AAAA(a), Family::V6) => found.push(IpAddr::from(Ipv6Addr::from(a.address))),
            _ => {}
        }
    }
    found.truncate(64);
    found
}

/// Names are compared without regard to ASCII case (RFC 4343).
fn same_name(a: &Name<'_>, b: &Name<'_>) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    a.map(<[u8]>::to_ascii_lowercase).eq(b.map(<[u8]>::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    fn a(name: &'static str, last: u8) -> ResourceRecord<'static> {
        let address = Ipv4Addr::new(10, 0, 0, last).into();
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 5, RData::A(A { address }))
    }

    fn cname(name: &'static str, target: &'static str) -> ResourceRecord<'static> {
        let data = RData::CNAME(CNAME(Name::new_unchecked(target)));
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 5, data)
    }

    fn answer(id: u16, name: &str, records: Vec<ResourceRecord<'_>>) -> Vec<u8> {
        let bytes = question(id, name, Family::V4).unwrap();
        let mut packet = Packet::parse(&bytes).unwrap().into_reply();
        packet.answers = records;
        packet.build_bytes_vec_compressed().unwrap()
    }

    #[test]
    fn an_answer_counts_for_its_own_question_only() {
        let bytes = answer(7, "Web.example", vec![a("web.EXAMPLE", 1), a("other.example", 2)]);
        let expected = Some(Reply::Addresses(vec![[10, 0, 0, 1].into()]));
        assert_eq!(parse_reply(&bytes, 7, "web.example", Family::V4), expected);
        assert_eq!(parse_reply(&bytes, 8, "web.example", Family::V4), None, "another id");
        assert_eq!(parse_reply(&bytes, 7, "web.exampl", Family::V4), None, "another name");
        assert_eq!(parse_reply(&bytes, 7, "web.example", Family::V6), None, "another type");
        let echo = question(7, "web.example", Family::V4).unwrap();
        assert_eq!(parse_reply(&echo, 7, "web.example", Family::V4), None, "a question is no answer");
    }

    #[test]
    fn aliases_are_followed_and_a_loop_of_them_ends() {
        let chain =
            vec![a("end.example", 3), cname("b.example", "end.example"), cname("a.example", "b.example")];
        let bytes = answer(1, "a.example", chain);
        assert_eq!(
            parse_reply(&bytes, 1, "a.example", Family::V4),
            Some(Reply::Addresses(vec![[10, 0, 0, 3].into()]))
        );
        let ring =
            answer(1, "a.example", vec![cname("a.example", "b.example"), cname("b.example", "a.example")]);
        assert_eq!(parse_reply(&ring, 1, "a.example", Family::V4), Some(Reply::NoRecord));
    }

    #[test]
    fn error_codes_and_truncation_are_told() {
        let reply = |change: &dyn Fn(&mut Packet<'_>)| {
            let bytes = question(1, "a.example", Family::V4).unwrap();
            let mut packet = Packet::parse(&bytes).unwrap().into_reply();
            change(&mut packet);
            parse_reply(&packet.build_bytes_vec().unwrap(), 1, "a.example", Family::V4)
        };
        assert_eq!(reply(&|p| *p.rcode_mut() = RCODE::NameError), Some(Reply::NoSuchName));
        assert_eq!(reply(&|p| *p.rcode_mut() = RCODE::ServerFailure), Some(Reply::Failed("SERVFAIL")));
        assert_eq!(reply(&|p| p.set_flags(PacketFlag::TRUNCATION)), Some(Reply::Truncated));
        assert_eq!(reply(&|_| ()), Some(Reply::NoRecord));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse_reply(&bytes, 1, "a.example", Family::V4);
        }

        #[test]
        fn no_damaged_answer_makes_the_reader_panic(
            hits in proptest::collection::vec((0usize..200, any::<u8>()), 1..8), cut in 0usize..200
        ) {
            let chain = vec![cname("a.example", "b.example"), a("b.example", 1), a("b.example", 2)];
            let mut bytes = answer(1, "a.example", chain);
            for (at, value) in hits {
                if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            }
            bytes.truncate(bytes.len().min(cut.max(12)));
            parse_reply(&bytes, 1, "a.example", Family::V4);
        }
    }
}
