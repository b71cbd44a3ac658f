//! Giving up every privilege once handles and files are open.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Takes every capability from the calling thread and forbids it to gain any by `execve`.
///
/// Capabilities belong to a thread (capset(2)): call it in the thread that reads packets, and start no other
/// afterwards. Open sockets and files keep working: their rights were checked when they were opened.
///
/// # Errors
/// The kernel's refusal of the effective, permitted or inheritable set; it does not refuse in practice.
pub fn drop_privileges() -> Result<(), CapsError> {
    keep(&[])
}

/// Leaves what it takes to create files in anybody's folder, to delete them and to give them away.
///
/// # Errors
/// As [`drop_privileges`].
pub(super) fn keep_for_files() -> Result<(), CapsError> {
    keep(&[Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER])
}

/// Gives the calling thread the share of the CPU that as many processes would have as there are `points`: on a
/// busy node one process that reads all of them would otherwise have less time than so many tcpdumps, and lose
/// packets that they do not. Counted from the niceness it was started with. Best effort: it takes CAP_SYS_NICE.
pub fn ask_for_share(points: usize) {
    let _ = rustix::process::nice(-steps(points));
}

/// Steps of niceness that weigh as much as so many processes: one is a factor of 1.25 (kernel/sched/core.c,
/// `sched_prio_to_weight`). At most ten, which is a factor of nine.
fn steps(points: usize) -> i32 {
    // Powers of 1.25, rounded to whole processes.
    const PROCESSES: [usize; 10] = [2, 2, 2, 3, 3, 4, 5, 6, 7, 9];
    i32::try_from(PROCESSES.iter().filter(|&&n| n <= points).count()).unwrap_or(0)
}

fn keep(wanted: &[Capability]) -> Result<(), CapsError> {
    // The bounding set needs CAP_SETPCAP and the ambient set Linux 4.3; with the inheritable set empty and
    // no_new_privs set, neither can give anything back.
    let _ = caps::clear(None, CapSet::Bounding);
    let _ = caps::clear(None, CapSet::Ambient);
    let _ = nix::sys::prctl::set_no_new_privs();
    let had = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = wanted.iter().copied().filter(|c| had.contains(c)).collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
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

    #[test]
    fn so_many_points_weigh_as_so_many_processes() {
        let given: Vec<_> = [0, 1, 2, 3, 4, 8, 9, 250].map(|points| (points, steps(points))).into();
        assert_eq!(given, [(0, 0), (1, 0), (2, 3), (3, 5), (4, 6), (8, 9), (9, 10), (250, 10)]);
    }

    #[test]
    fn who_keeps_files_can_do_nothing_else() {
        std::thread::spawn(|| {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            keep_for_files().unwrap();
            let left = caps::read(None, CapSet::Effective).unwrap();
            let files = [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER];
            assert_eq!(left, files.into_iter().filter(|c| before.contains(c)).collect());
            assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), left);
        })
        .join()
        .unwrap();
    }
}
