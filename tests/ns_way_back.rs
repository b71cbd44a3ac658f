//! Black holes on the way back, whatever is on the way there.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly; clippy sees only #[test] functions as tests"
)]

mod support;
use support::namespace_path::{NamespacePath, mtu, scenario, seen};

#[test]
fn over_ipv6_a_narrow_way_back_is_told_apart_from_a_narrow_way_there() {
    let text = "about = 'back'\nfamily = 6\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&scenario(text));
    // Replies over 1400 bytes never leave the router towards the source.
    let rule = "add table inet back; add chain inet back f { type filter hook forward priority 0; }; \
                add rule inet back f icmpv6 type echo-reply meta length > 1400 drop";
    path.router(1).nft(rule);
    let (code, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("clear", Some(1500), "icmp"), "{document:#}");
    assert_eq!(document["reverse"]["verdict"], "black_hole");
    assert_eq!(document["reverse"]["limit_bytes"], 1400);
    assert_eq!(code, Some(1));
}

#[test]
fn over_ipv4_replies_that_are_dropped_on_the_way_back_are_told_apart_too() {
    let text = "about = 'back'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }]\n\
                expect = { verdict = 'clear', path_mtu = 1500 }";
    let path = NamespacePath::build(&scenario(text));
    let filter = |netns: &support::Netns, rule: &str| {
        let rules = format!(
            "add table inet back; add chain inet back f {{ type filter hook forward priority 0; }}; {rule}"
        );
        netns.nft(&rules);
    };
    filter(path.router(1), "add rule inet back f icmp type echo-reply meta length > 1400 drop");
    let (code, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("clear", Some(1500), "icmp"), "{document:#}");
    assert_eq!(document["reverse"]["verdict"], "black_hole");
    assert_eq!(document["reverse"]["limit_bytes"], 1400);
    assert_eq!(code, Some(1));
    // Dropped on the way there as well: then nothing is known of the way back.
    filter(path.router(1), "add rule inet back f meta length > 1300 drop");
    let (_, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("black_hole", Some(1300), "icmp"), "{document:#}");
    assert_eq!(document["reverse"]["verdict"], "unknown", "{document:#}");
}

#[test]
fn a_black_hole_on_the_way_there_is_found_behind_a_narrower_one_on_the_way_back() {
    let path = NamespacePath::build(&scenario(
        "about = 'both ways'\ninterface_mtu = 1500\nhop = [{ mtu = 1500 }, { mtu = 1450, ptb = 'silent' }]\n\
         expect = { verdict = 'black_hole', path_mtu = 1450 }",
    ));
    let rule = "add table inet back; add chain inet back f { type filter hook forward priority 0; }; \
                add rule inet back f icmp type echo-reply meta length > 1400 drop";
    path.router(1).nft(rule);
    let (_, document) = mtu(&path, &[]);
    assert_eq!(seen(&document), ("black_hole", Some(1450), "icmp"), "{document:#}");
    assert_eq!(document["reverse"]["verdict"], "black_hole", "{document:#}");
    assert_eq!(document["reverse"]["limit_bytes"], 1400, "{document:#}");
}

/// A router says how much the way there takes, and replies over 1300 bytes vanish.
#[test]
fn behind_a_narrowing_that_is_told_a_black_hole_on_the_way_back_is_told_too() {
    for family in [4, 6] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'narrowed, and back'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1400 }}, {{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'narrowed', path_mtu = 1400 }}"
        )));
        let target = path.target();
        let rule = format!(
            "add table inet back; add chain inet back f {{ type filter hook forward priority 0; }}; \
             add rule inet back f {} saddr {target} meta length > 1300 drop",
            if family == 4 { "ip" } else { "ip6" }
        );
        path.router(2).nft(&rule);
        let (code, document) = mtu(&path, &[]);
        assert_eq!(seen(&document), ("narrowed", Some(1400), "icmp"), "{document:#}");
        assert_eq!(document["signalled"], true, "{document:#}");
        assert_eq!(document["reverse"]["verdict"], "black_hole", "{document:#}");
        assert_eq!(document["reverse"]["limit_bytes"], 1300, "{document:#}");
        assert_eq!(code, Some(1));
    }
}

/// Errors of a host are few: three searches in a row have used them up.
#[test]
fn which_way_a_black_hole_is_on_is_told_however_often_one_asks() {
    for family in [4, 6] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'back'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'clear', path_mtu = 1500 }}"
        )));
        let rule = "add table inet back; add chain inet back f { type filter hook forward priority 0; }; \
                    add rule inet back f icmp type echo-reply meta length > 1400 drop; \
                    add rule inet back f icmpv6 type echo-reply meta length > 1400 drop";
        path.router(1).nft(rule);
        for round in 0..8 {
            let (_, document) = mtu(&path, &[]);
            assert_eq!(seen(&document), ("clear", Some(1500), "icmp"), "{family} {round}: {document:#}");
            assert_eq!(document["reverse"]["limit_bytes"], 1400, "{family} {round}: {document:#}");
        }
    }
}

/// Neither a strange protocol nor a timestamp request is answered: datagrams tell that it is the way there. That they arrive
/// proves nothing, for a firewall may say so.
#[test]
fn a_host_that_answers_datagrams_alone_tells_that_a_black_hole_is_on_the_way_there() {
    for (family, back) in [(4, false), (6, false), (4, true), (6, true)] {
        let mtu_there = if back { 1500 } else { 1400 };
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'datagrams'\nfamily = {family}\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = {mtu_there}, ptb = 'silent' }}]\ntarget = {{ unknown_protocol = false }}\n\
             expect = {{ verdict = 'black_hole', path_mtu = 1400 }}"
        )));
        let drop = "add table inet d; add chain inet d f { type filter hook prerouting priority 0; }; \
                    add rule inet d f icmp type { timestamp-request, timestamp-reply } drop";
        let back_too = "; add rule inet d f icmp type echo-reply meta length > 1400 drop; \
                        add rule inet d f icmpv6 type echo-reply meta length > 1400 drop";
        let rule = format!("{drop}{}", if back { back_too } else { "" });
        path.router(1).nft(&rule);
        let (_, document) = mtu(&path, &[]);
        assert_eq!(seen(&document), ("black_hole", Some(1400), "icmp"), "{family} {back}: {document:#}");
        let said = document.to_string().contains("may be their replies");
        assert_eq!(said, back, "{family} {back}: {document:#}");
    }
}

/// The first router drops what is neither echo nor UDP: how far such packets get says nothing of a size.
#[test]
fn over_ipv6_a_hop_that_drops_strange_protocols_is_not_blamed() {
    for narrow in [1400, 1500] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'strange'\nfamily = 6\ninterface_mtu = 1500\n\
             hop = [{{ mtu = 1500 }}, {{ mtu = 1500 }}, {{ mtu = {narrow}, ptb = 'silent' }}]\n\
             expect = {{ verdict = 'black_hole', path_mtu = 1400 }}"
        )));
        let drop = "add table inet d; add chain inet d f { type filter hook prerouting priority 0; }; \
                    add rule inet d f meta l4proto 253 drop; \
                    add rule inet d f icmpv6 type echo-reply meta length > 1400 drop";
        path.router(1).nft(drop);
        let (_, document) = mtu(&path, &[]);
        assert_eq!(seen(&document), ("black_hole", Some(1400), "icmp"), "{narrow}: {document:#}");
        // The target is hop four: that is where a way there of 1400 bytes ends, and a way back begins.
        assert_eq!(document["narrowing"]["ttl"], 4, "{narrow}: {document:#}");
        let said = document.to_string().contains("may be their replies");
        assert_eq!(said, narrow == 1500, "{narrow}: {document:#}");
    }
}

/// A firewall rejects all but echo, and drops what is large without a word: nobody refuses a size, and nobody says which way.
#[test]
fn what_is_rejected_for_what_it_is_is_not_refused_for_its_size() {
    for (family, clear) in [(4, false), (6, false), (6, true)] {
        let path = NamespacePath::build(&scenario(&format!(
            "about = 'rejects'\nfamily = {family}\ninterface_mtu = 1500\nhop = [{{ mtu = 1500 }}, {{ mtu = 1500 }}]\n\
             expect = {{ verdict = 'clear', path_mtu = 1500 }}"
        )));
        let large = if clear { 2000 } else { 1400 };
        let reject = format!(
            "add table inet d; add chain inet d f {{ type filter hook forward priority 0; }}; \
             add rule inet d f meta length > {large} drop; \
             add rule inet d f icmp type {{ echo-request, echo-reply, time-exceeded }} accept; \
             add rule inet d f icmpv6 type {{ echo-request, echo-reply, time-exceeded, packet-too-big }} accept; \
             add rule inet d f reject with icmpx type admin-prohibited"
        );
        path.router(1).nft(&reject);
        let (_, document) = mtu(&path, &[]);
        let expected = if clear { ("clear", Some(1500), "icmp") } else { ("black_hole", Some(1400), "icmp") };
        assert_eq!(seen(&document), expected, "{family}: {document:#}");
        assert!(!document.to_string().contains("refused"), "{family}: {document:#}");
    }
}
