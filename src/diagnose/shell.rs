//! Names in commands that somebody pastes into a root shell.

use std::borrow::Cow;

/// A name as one word of a shell command: a pod may call its interfaces what it likes, `$(…)` and `;` included.
pub(super) fn word(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("'{}'", name.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_name_for_one_word() {
        for name in ["eth0", "veth@if3", "cilium_vxlan", "eth0.100"] {
            assert_eq!(word(name), name);
        }
        for name in ["x;reboot;y", "$(id)", "`id`", "a'b", "a b", "*", "", "\"", "\\"] {
            let line = format!("printf %s {}", word(name));
            let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), name, "{line}");
        }
    }
}
