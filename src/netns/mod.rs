//! A network namespace held open by file descriptor; work in it happens on threads that die.
//!
//! A thread enters with `setns`, opens its sockets, hands back file descriptors and ends. It never
//! restores, so no error path can leave a thread in a pod's namespace.

mod process;
mod procfs;
mod rooted;
mod threads;
mod tool;

pub use process::{Process, ProcessError, start_time};
pub use procfs::Procfs;
pub use rooted::{handle_path, inode_in_root, open_in_root, read_in_root, read_whole, reopen};
pub use threads::{most_threads, on_threads_that_die, share_out};
pub use tool::{Shortfall, Uts, enter_for_tool, replace_process};

use nix::sched::{CloneFlags, setns};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What can go wrong while a namespace is opened or entered.
#[derive(Debug, Error)]
pub enum NetNsError {
    /// The path cannot be opened.
    #[error("cannot open the network namespace {path}: {source}")]
    Open {
        /// The path that was tried.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The path is something else.
    #[error("{path} is not a network namespace ({what})")]
    NotANamespace {
        /// The path that was tried.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// `setns` was refused.
    #[error("cannot enter the network namespace (inode {inode}): {source}")]
    Enter {
        /// Inode of the namespace.
        inode: u64,
        /// The kernel's word; EPERM means CAP_SYS_ADMIN is missing.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The process that leads to the namespace is not the one that was meant.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl NetNsError {
    /// Whether the cause is a privilege that this process lacks.
    pub fn is_permission(&self) -> bool {
        let source = match self {
            Self::Open { source, .. } | Self::Enter { source, .. } => source,
            Self::Process(ProcessError::Io { source, .. }) => source,
            _ => return false,
        };
        source.kind() == io::ErrorKind::PermissionDenied
    }
}

thread_local! {
    /// The namespace that this thread has entered. The thread keeps it alive, so its inode is nobody else's.
    static ENTERED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A network namespace, kept alive by this open file whatever happens to its processes.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    inode: u64,
}

/// `NSFS_MAGIC`, linux/magic.h: the file system that namespace files live on.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// `PROC_SUPER_MAGIC`: kernels before 3.19 kept them on procfs.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

impl NetNs {
    /// Opens a namespace file: `/run/netns/x`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetNsError::Open`], or [`NetNsError::NotANamespace`] for a plain file or another kind of namespace.
    pub fn open(path: &Path) -> Result<Self, NetNsError> {
        Self::from_file(open_file(path)?, path)
    }

    /// Opens `/proc/PID/ns/net` of a procfs that is known to be one: its kind need not be asked for.
    fn open_on_procfs(path: &Path) -> Result<Self, NetNsError> {
        let file = open_file(path)?;
        let source = |source| NetNsError::Open { path: path.to_owned(), source };
        let inode = file.metadata().map_err(source)?.ino();
        Ok(Self { file, inode })
    }

    /// The network namespace of a pidfd's process, without a way through procfs that its PID could change under;
    /// `None` where the kernel cannot (before 6.11) or the process has none any more.
    fn of_pidfd(pidfd: BorrowedFd<'_>) -> Option<Self> {
        use std::os::fd::{AsRawFd, FromRawFd};
        // PIDFD_GET_NET_NAMESPACE, linux/pidfd.h; its argument has to be 0.
        nix::ioctl_write_int_bad!(pidfd_get_net_namespace, nix::request_code_none!(0xff, 4));
        // SAFETY: the request takes a number and answers with a new descriptor.
        let fd = unsafe { pidfd_get_net_namespace(pidfd.as_raw_fd(), 0) }.ok()?;
        // SAFETY: the descriptor has just been made for us, and nobody else knows of it.
        let file = unsafe { File::from_raw_fd(fd) };
        let inode = file.metadata().ok()?.ino();
        Some(Self { file, inode })
    }

    /// Takes an open namespace file; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`NetNs::open`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, NetNsError> {
        let open_error = |source: io::Error| NetNsError::Open { path: path.to_owned(), source };
        let not = |what| NetNsError::NotANamespace { path: path.to_owned(), what };
        let kind = nix::sys::statfs::fstatfs(&file).map_err(|e| open_error(e.into()))?;
        let magic = kind.filesystem_type().0;
        if magic != NSFS_MAGIC && magic != PROC_SUPER_MAGIC {
            return Err(not(if file.metadata().is_ok_and(|m| m.is_dir()) {
                "a folder"
            } else {
                "a plain file: its mount is gone, or it never was one"
            }));
        }
        if let Some(flag) = namespace_type(file.as_fd())
            && flag != libc::CLONE_NEWNET
        {
            return Err(not("another kind of namespace"));
        }
        let inode = file.metadata().map_err(open_error)?.ino();
        Ok(Self { file, inode })
    }

    /// The namespace this thread is in: the node's own, as long as nothing has been entered.
    ///
    /// # Errors
    /// As [`NetNs::open`].
    pub fn own() -> Result<Self, NetNsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Inode of the namespace: its identity on this node.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A second handle on the same namespace.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, inode: self.inode })
    }

    /// Runs `work` inside the namespace on a thread that then dies, and hands back what it returned. A
    /// thread that has entered this very namespace does it itself.
    ///
    /// # Errors
    /// [`NetNsError::Enter`] without CAP_SYS_ADMIN; [`NetNsError::Thread`] when the thread limit is reached.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        if ENTERED.get() == Some(self.inode) {
            return Ok(work());
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    self.enter_for_ever()?;
                    Ok(work())
                })
                .map_err(NetNsError::Thread)?;
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into the namespace for good. For threads that read many namespaces in
    /// turn and then die, for children between fork and exec, and for a command that has nothing left to do outside.
    ///
    /// # Errors
    /// [`NetNsError::Enter`].
    pub fn enter_for_ever(&self) -> Result<(), NetNsError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| NetNsError::Enter { inode: self.inode, source: e.into() })?;
        ENTERED.set(Some(self.inode));
        Ok(())
    }
}

/// Makes room for a thousand open descriptors, for who will hold hundreds of namespaces open: to be called before
/// the first thread starts. Once a process has threads, each growth of its table waits until no processor can
/// use the old one, 10 ms and more (kernel fs/file.c `expand_fdtable`).
pub fn expect_many_descriptors() {
    const MANY: i32 = 1023;
    // A number at the far end, and back; a lower limit on open files makes this fail, and nothing else.
    if let Ok(fd) = nix::fcntl::fcntl(io::stderr(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(MANY)) {
        let _ = nix::unistd::close(fd);
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// O_NONBLOCK: a FIFO in this place must not hang us.
fn open_file(path: &Path) -> Result<File, NetNsError> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(path).map_err(|source| NetNsError::Open { path: path.to_owned(), source })
}

/// `NS_GET_NSTYPE` of an open namespace file (ioctl_ns(2)); `None` on kernels before 4.11.
fn namespace_type(fd: BorrowedFd<'_>) -> Option<i32> {
    use std::os::fd::AsRawFd;
    nix::ioctl_none_bad!(ns_get_nstype, nix::request_code_none!(0xb7, 0x3));
    // SAFETY: the request takes no argument and only reads the kind of an open namespace file.
    unsafe { ns_get_nstype(fd.as_raw_fd()) }.ok()
}
