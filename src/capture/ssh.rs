//! The ssh connection that carries a capture's own output: captured, it would feed on itself.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// The connection that sshd names in `SSH_CONNECTION` (ssh(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SshConnection {
    /// Address and port of the client.
    pub client: (IpAddr, u16),
    /// Address and port of this node.
    pub server: (IpAddr, u16),
}

impl SshConnection {
    /// Reads `client-ip client-port server-ip server-port`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut end = || {
            // A link-local address carries its zone, which no filter takes.
            let address: IpAddr = words.next()?.split('%').next()?.parse().ok()?;
            // What is IPv4 on the wire is IPv4 in a filter.
            Some((address.to_canonical(), words.next()?.parse().ok()?))
        };
        let connection = Self { client: end()?, server: end()? };
        words.next().is_none().then_some(connection)
    }

    /// A filter that leaves out both directions of the connection and nothing else.
    pub fn exclusion(&self) -> String {
        let ((client, client_port), (server, server_port)) = (self.client, self.server);
        format!("not (host {client} and port {client_port} and host {server} and port {server_port})")
    }
}

impl fmt::Display for SshConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((client, client_port), (server, server_port)) = (self.client, self.server);
        write!(f, "{client} port {client_port} to {server} port {server_port}")
    }
}

/// The ssh connection this process was started through: its own `SSH_CONNECTION`, else that of the nearest
/// parent that has one, because sudo takes it away. `proc_root` is `/proc`.
pub fn find_ssh_connection(proc_root: &Path) -> Option<SshConnection> {
    if let Ok(text) = std::env::var("SSH_CONNECTION") {
        return SshConnection::parse(&text);
    }
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..16 {
        if pid <= 1 {
            return None;
        }
        let folder = proc_root.join(pid.to_string());
        if let Some(connection) =
            std::fs::read(folder.join("environ")).ok().and_then(|env| from_environ(&env))
        {
            return Some(connection);
        }
        pid = parent(&std::fs::read_to_string(folder.join("status")).ok()?)?;
    }
    None
}

/// `SSH_CONNECTION` among the NUL-separated variables of /proc/PID/environ.
fn from_environ(environ: &[u8]) -> Option<SshConnection> {
    let value = environ.split(|&b| b == 0).find_map(|v| v.strip_prefix(b"SSH_CONNECTION="))?;
    SshConnection::parse(std::str::from_utf8(value).ok()?)
}

/// `PPid` of /proc/PID/status.
fn parent(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exclusion_names_both_ends() {
        let connection = SshConnection::parse("192.0.2.1 50000 192.0.2.2 22").unwrap();
        assert_eq!(
            connection.exclusion(),
            "not (host 192.0.2.1 and port 50000 and host 192.0.2.2 and port 22)"
        );
    }

    #[test]
    fn a_zone_is_left_out_and_rubbish_is_refused() {
        let connection = SshConnection::parse("fe80::1%eth0 5 fe80::2%eth0 22").unwrap();
        assert_eq!(connection.client.0, "fe80::1".parse::<IpAddr>().unwrap());
        let mapped = SshConnection::parse("::ffff:192.0.2.1 5 ::ffff:192.0.2.2 22").unwrap();
        assert!(mapped.exclusion().contains("host 192.0.2.1 and"), "{}", mapped.exclusion());
        for wrong in
            ["", "1.2.3.4 5 6.7.8.9", "1.2.3.4 5 6.7.8.9 22 1", "a 1 b 2", "1.2.3.4 99999 6.7.8.9 22"]
        {
            assert_eq!(SshConnection::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_connection_of_a_parent_is_found_in_its_environment() {
        assert!(from_environ(b"A=1\0SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22\0B=2\0").is_some());
        assert!(from_environ(b"XSSH_CONNECTION=192.0.2.1 5 192.0.2.2 22\0").is_none());
        assert_eq!(parent("Name:\tsudo\nPPid:\t42\nUid:\t0\n"), Some(42));
    }
}
