//! The picture of a life.

use super::*;
use crate::facts::ContainerHistory;

fn attempt(number: u32, exit_code: Option<i32>, began: i64, ended: Option<i64>) -> Attempt {
    Attempt {
        attempt: Some(number),
        id: Some(format!("{number:064x}")),
        state: if exit_code.is_some() { ContainerState::Exited } else { ContainerState::Running },
        exit_code,
        reason: None,
        message: None,
        started_ns: Some(began * 1_000_000_000),
        finished_ns: ended.map(|s| s * 1_000_000_000),
        memory_limit_bytes: Some(64 << 20),
        pid: None,
        memory: None,
        last_lines: vec!["\u{1b}[31mout of cheese\u{1b}[0m".into()],
        source: "CRI ContainerStatus",
    }
}

fn text(attempts: Vec<Attempt>, width: usize) -> String {
    let history = PodHistory {
        namespace: "shop".into(),
        name: "web".into(),
        containers: vec![ContainerHistory { name: "app".into(), attempts }],
        ..PodHistory::default()
    };
    let document = WhyDocument::new(&history, Vec::new());
    let view = WhyView { now_ns: 1000 * 1_000_000_000 };
    render(&document, &history, view, Paint::new(false), Some(width))
}

#[test]
fn a_life_is_drawn_to_scale_and_fits_a_narrow_terminal() {
    let attempts = vec![
        attempt(0, Some(3), 0, Some(500)),
        attempt(1, Some(0), 600, Some(700)),
        attempt(2, None, 800, None),
    ];
    let narrow = text(attempts.clone(), 42);
    assert!(narrow.lines().all(|line| line.chars().count() <= 42), "{narrow}");
    assert_eq!(
        narrow,
        "\
nothing wrong: shop/web

app  limit 64 MiB, restarted 2 times
  #0   00:00:00  |==========x          |
       crashed, exit 3 after 8 min
       > \\u{1b}[31mout of cheese\\u{1b}[0m
  #1   00:10:00  |            ==.      |
       completed after 100 s
       > \\u{1b}[31mout of cheese\\u{1b}[0m
  #2   00:13:20  |                ====>|
       running for 3 min
"
    );
}

#[test]
fn a_pod_without_a_container_is_not_called_fine() {
    let history = PodHistory { namespace: "shop".into(), name: "new".into(), ..PodHistory::default() };
    let document = WhyDocument::new(&history, Vec::new());
    let text = render(&document, &history, WhyView { now_ns: 0 }, Paint::new(false), None);
    assert!(text.starts_with("nothing known: shop/new\n\nno container of it is known here"), "{text}");
    assert!(text.ends_with("next: journalctl -u kubelet | grep new\n"), "{text}");
}

#[test]
fn no_time_no_picture_and_nothing_breaks() {
    let unknown = Attempt { started_ns: None, finished_ns: None, attempt: None, ..attempt(0, None, 0, None) };
    assert!(text(vec![unknown], 80).contains("  #?   --:--:--  |?"));
    let odd = attempt(0, Some(1), i64::MAX / 2_000_000_000, Some(i64::MIN / 2_000_000_000));
    assert!(text(vec![odd], 1).contains("crashed"));
}

#[test]
fn the_document_has_the_signal_as_a_number() {
    let history = PodHistory {
        containers: vec![ContainerHistory {
            name: "app".into(),
            attempts: vec![attempt(0, Some(139), 1, Some(2))],
        }],
        ..PodHistory::default()
    };
    let document = WhyDocument::new(&history, Vec::new());
    let one = &document.containers[0].attempts[0];
    assert_eq!(
        (one.signal, one.cause, one.finished_at.as_deref()),
        (Some(11), Cause::Signal, Some("1970-01-01T00:00:02Z"))
    );
}
