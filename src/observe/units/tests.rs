//! Against a peer that speaks, hangs and lies.

use super::*;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

fn answer(serial: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(99_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend([5, 1, b'u', 0]);
    bytes.extend(serial.to_le_bytes());
    bytes.extend(body);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    let mut body = vec![1, b's', 0, 0];
    body.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    body.extend(value.as_bytes());
    body.push(0);
    body
}

/// A systemd that has kubelet.service and nothing else.
fn serve(mut stream: UnixStream) -> Option<()> {
    let mut byte = [0];
    let mut line = Vec::new();
    for end in ["AUTH EXTERNAL", "BEGIN"] {
        line.clear();
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).ok()?;
            line.extend(byte);
        }
        assert!(String::from_utf8_lossy(&line).contains(end), "{line:?}");
        if end != "BEGIN" {
            stream.write_all(b"OK 0123456789abcdef\r\n").ok()?;
        }
    }
    loop {
        let mut head = vec![0; 16];
        stream.read_exact(&mut head).ok()?;
        let serial = u32::from_le_bytes(head[8..12].try_into().unwrap());
        let mut rest = vec![0; message::rest(&head).unwrap()];
        stream.read_exact(&mut rest).ok()?;
        let words = String::from_utf8_lossy(&rest).into_owned();
        let kubelet = words.contains("/unit/kubelet_2eservice\0");
        let has = |property: &str| words.contains(&format!("\0{property}\0"));
        // A signal between the answers is nobody's.
        stream.write_all(&answer(serial, 4, b"")).ok()?;
        let reply = if has("LoadState") {
            answer(serial, 2, &text(if kubelet { "loaded" } else { "not-found" }))
        } else if has("ActiveState") {
            answer(serial, 2, &text("activating"))
        } else if has("NRestarts") {
            answer(serial, 2, &[&[1, b'u', 0, 0][..], &17_u32.to_le_bytes()].concat())
        } else if has("ExecMainStatus") {
            answer(serial, 2, &[&[1, b'i', 0, 0][..], &(-1_i32).to_le_bytes()].concat())
        } else if has("StateChangeTimestamp") {
            answer(
                serial,
                2,
                &[&[1, b't', 0, 0, 0, 0, 0, 0][..], &1_795_455_716_291_464_u64.to_le_bytes()].concat(),
            )
        } else {
            answer(serial, 3, b"")
        };
        stream.write_all(&reply).ok()?;
    }
}

fn node(serve: impl Fn(UnixStream) + Send + 'static) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("run/systemd")).unwrap();
    let listener = UnixListener::bind(dir.path().join("run/systemd/private")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
    dir
}

#[test]
fn a_unit_is_read_and_what_is_refused_is_unknown() {
    let node = node(|stream| {
        serve(stream);
    });
    let NodeUnits::Systemd(units, socket) = read_node_units(node.path()) else { panic!("no systemd") };
    assert_eq!(socket, "/run/systemd/private");
    let unit = UnitState {
        name: "kubelet.service".into(),
        load_state: Some("loaded".into()),
        active_state: Some("activating".into()),
        restarts: Some(17),
        exit_status: Some(-1),
        since_us: Some(1_795_455_716_291_464),
        ..UnitState::default()
    };
    assert_eq!(units, [unit]);
}

#[test]
fn a_peer_that_hangs_lies_or_refuses_is_told_of() {
    let told = |serve: fn(UnixStream)| match read_node_units(node(serve).path()) {
        NodeUnits::Unknown(why) => why,
        other => panic!("{other:?}"),
    };
    let hangs = told(std::mem::forget);
    assert!(hangs.contains("/run/systemd/private: timed out"), "{hangs}");
    // Who closes without having read resets the connection, and its own words with it.
    fn says(mut stream: UnixStream, words: &[u8]) {
        let _ = stream.read(&mut [0; 256]);
        let _ = stream.write_all(words);
    }
    let refuses = told(|stream| says(stream, b"REJECTED EXTERNAL\r\n"));
    assert!(refuses.contains("does not let us in"), "{refuses}");
    let lies = told(|stream| says(stream, &[&b"OK x\r\n"[..], &[b'l'; 4096]].concat()));
    assert!(lies.contains("/run/systemd/private: "), "{lies}");
}

#[test]
fn no_message_makes_the_reader_fall() {
    let whole = answer(7, 2, &text("active"));
    assert_eq!(message::parse(&whole).unwrap().value(), Some(Value::Text("active".into())));
    for end in 0..whole.len() {
        let _ = message::parse(&whole[..end]).map(|message| message.value());
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut broken = whole.clone();
            broken[at] ^= 1 << bit;
            let _ = message::parse(&broken).map(|message| message.value());
            let _ = message::rest(&broken);
        }
    }
}

#[test]
fn names_of_objects() {
    assert_eq!(object("cri-docker.service"), "/org/freedesktop/systemd1/unit/cri_2ddocker_2eservice");
    assert_eq!(object("k3s.service"), "/org/freedesktop/systemd1/unit/k3s_2eservice");
}

#[test]
fn processes_where_there_is_no_systemd() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let stat = |pid: u32| format!("{pid} (a) b) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 5000 0 0");
    for (pid, name, cgroup) in [
        (10, "kubelet", "0::/system.slice/kubelet.service"),
        (11, "kubelet", "0::/kubepods.slice/x"),
        (12, "sh", "0::/"),
    ] {
        write(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        write(&format!("proc/{pid}/cgroup"), cgroup);
        write(&format!("proc/{pid}/stat"), &stat(pid));
    }
    write("proc/stat", "cpu 1\nbtime 1795000000\n");
    let NodeUnits::Processes(found, why) = read_node_units(dir.path()) else { panic!("no processes") };
    let kubelet = crate::facts::NodeProcess { name: "kubelet".into(), pid: 10, since: Some(1_795_000_050) };
    assert_eq!(found, [kubelet]);
    assert!(why.contains("/run/systemd/private: "), "{why}");
}
