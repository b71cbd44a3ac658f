//! Giving up every privilege once handles and files are open.

use caps::{CapSet, errors::CapsError};

/// Takes every capability from the calling thread and forbids it to gain any by `execve`.
///
/// Capabilities belong to a thread (capset(2)): call it in the thread that reads packets, and start no other
/// afterwards. Open sockets and files keep working: their rights were checked when they were opened.
///
/// # Errors
/// The kernel's refusal of the effective, permitted or inheritable set; it does not refuse in practice.
pub fn drop_privileges() -> Result<(), CapsError> {
    // The bounding set needs CAP_SETPCAP and the ambient set Linux 4.3; with the other sets empty and
    // no_new_privs set, neither can give anything back.
    let _ = caps::clear(None, CapSet::Bounding);
    let _ = caps::clear(None, CapSet::Ambient);
    let _ = nix::sys::prctl::set_no_new_privs();
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_threads_capabilities() {
        // In a thread of its own: the other tests keep theirs.
        std::thread::spawn(|| {
            drop_privileges().unwrap();
            for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
                assert!(caps::read(None, set).unwrap().is_empty(), "{set:?}");
            }
            assert!(nix::sys::prctl::get_no_new_privs().unwrap());
        })
        .join()
        .unwrap();
    }
}
