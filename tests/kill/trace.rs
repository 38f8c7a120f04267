//! Runs a program under ptrace, all its threads, and counts the system calls by which it changes files
//! below a folder, and those by which it reads them. The n-th can be made the last thing before a kill, made to move
//! only a part, made to fail, or held while another program runs. What the program did is told to a [`Disk`], which
//! knows what a power cut would leave.
//!
//! Programs that planexe starts (commands, its lifeline) are not traced: they have their own process
//! groups and live on after a kill of planexe, as they would outside.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use libc::{c_long, pid_t};

use super::disk::{Change, Disk};

/// What is done to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Watch,
    /// It is killed before call n is carried out.
    Kill(usize),
    /// Call n, if it writes, writes half; then the program is killed.
    Torn(usize),
    /// Call n fails with this error, and if `sticky` all that follow.
    Fail {
        /// n.
        at: usize,
        /// The error.
        errno: i32,
        /// For good.
        sticky: bool,
    },
    /// Before call n all threads wait while `hit` runs.
    Hold(usize),
    /// Read n fails with this error.
    FailRead {
        /// n.
        at: usize,
        /// The error.
        errno: i32,
    },
    /// Read n gives one byte.
    ShortRead(usize),
}

impl Plan {
    /// The call it is about, from 0.
    pub fn at(self) -> Option<usize> {
        match self {
            Plan::Watch => None,
            Plan::Kill(at)
            | Plan::Torn(at)
            | Plan::Fail { at, .. }
            | Plan::Hold(at)
            | Plan::FailRead { at, .. }
            | Plan::ShortRead(at) => Some(at),
        }
    }

    /// Whether it is about a read.
    fn is_of_reads(self) -> bool {
        matches!(self, Plan::FailRead { .. } | Plan::ShortRead(_))
    }
}

/// A call that changes or reads files.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The file, relative to the folder.
    pub path: String,
    /// Whether it moves bytes, and could move fewer.
    pub moves: bool,
}

/// How a traced program ended.
pub struct Traced {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// The calls that change files, in the order in which they began.
    pub calls: Vec<Call>,
    /// Those that read files; counted under plans that are about reads, and if there is no plan.
    pub reads: Vec<Call>,
    /// The disk at its end.
    pub disk: Disk,
    /// It was still running after [`LIMIT`].
    pub hung: bool,
}

impl Traced {
    /// The call the plan was about, if it came to that.
    pub fn hit(&self, plan: Plan) -> Option<&Call> {
        let calls = if plan.is_of_reads() { &self.reads } else { &self.calls };
        calls.get(plan.at()?)
    }
}

/// The longest a traced run may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Whether this system lets a program be traced.
pub fn permitted() -> bool {
    let mut command = Command::new("true");
    let folder = std::env::temp_dir();
    match run(&mut command, &folder, Disk::empty(&folder), Plan::Watch, &mut || ()) {
        Ok(traced) => traced.code == Some(0),
        Err(_) => false,
    }
}

/// A thread of the program.
#[derive(Default)]
struct Thread {
    /// The changing call it is in: its number, what it does, what to do at its end.
    inside: Option<(usize, Option<Change>, AtExit)>,
}

#[derive(Clone, Copy, PartialEq)]
enum AtExit {
    Nothing,
    Fail(i32),
    Kill,
}

/// Runs a program, its working directory being `folder`. `hit` is called at the moment the plan comes
/// to pass.
pub fn run(
    command: &mut Command,
    folder: &Path,
    disk: Disk,
    plan: Plan,
    hit: &mut dyn FnMut(),
) -> io::Result<Traced> {
    run_within(LIMIT, command, folder, disk, plan, hit)
}

/// The same; it is killed, and called hung, after `limit`.
pub fn run_within(
    limit: Duration,
    command: &mut Command,
    folder: &Path,
    disk: Disk,
    plan: Plan,
    hit: &mut dyn FnMut(),
) -> io::Result<Traced> {
    // SAFETY: ptrace is safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    let pid = child.id() as pid_t;
    let (done, ended) = channel::<()>();
    let guard = std::thread::spawn(move || {
        let hung = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if hung {
            kill(pid);
        }
        hung
    });
    let mut tracer = Tracer {
        pid,
        folder,
        disk,
        plan,
        hit,
        calls: vec![],
        reads: vec![],
        threads: HashMap::new(),
        memory: None,
    };
    let code = tracer.follow();
    drop(done);
    let hung = guard.join().unwrap_or(true);
    let Tracer { calls, reads, disk, .. } = tracer;
    Ok(Traced { code: code?, calls, reads, disk, hung })
}

fn kill(pid: pid_t) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn ptrace(request: libc::c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: `data` is a number, or a pointer to something as large as the request wants.
    let result = unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

struct Tracer<'a> {
    pid: pid_t,
    folder: &'a Path,
    disk: Disk,
    plan: Plan,
    hit: &'a mut dyn FnMut(),
    calls: Vec<Call>,
    reads: Vec<Call>,
    threads: HashMap<pid_t, Thread>,
    memory: Option<File>,
}

impl Tracer<'_> {
    /// Follows the program to its end.
    fn follow(&mut self) -> io::Result<Option<i32>> {
        let mut prepared = false;
        loop {
            let mut status = 0;
            // Of this thread's children alone: other tests have theirs.
            // SAFETY: `status` outlives the call.
            let tid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
            if tid == -1 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.threads.remove(&tid);
                if tid == self.pid {
                    return Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)));
                }
                continue;
            }
            if !prepared && tid == self.pid {
                prepared = true;
                let options =
                    libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options as usize)?;
                self.memory = Some(File::open(format!("/proc/{tid}/mem"))?);
                self.go_on(tid, 0);
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            let event = status >> 16;
            if signal == libc::SIGTRAP | 0x80 {
                // A thread that is killed meanwhile cannot be asked any more.
                let _ = self.at_call(tid);
                self.go_on(tid, 0);
            } else if event != 0 || signal == libc::SIGTRAP {
                self.go_on(tid, 0);
            } else if signal == libc::SIGSTOP && !self.threads.contains_key(&tid) {
                self.threads.insert(tid, Thread::default());
                self.go_on(tid, 0);
            } else {
                self.go_on(tid, signal);
            }
        }
    }

    fn go_on(&self, tid: pid_t, signal: i32) {
        let _ = ptrace(libc::PTRACE_SYSCALL, tid, 0, signal as usize);
    }

    fn registers(&self, tid: pid_t) -> io::Result<libc::user_regs_struct> {
        // SAFETY: plain numbers, for which zero is fine; the kernel fills them in.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ptrace(libc::PTRACE_GETREGS, tid, 0, &raw mut registers as usize)?;
        Ok(registers)
    }

    fn set_registers(&self, tid: pid_t, registers: &libc::user_regs_struct) -> io::Result<()> {
        ptrace(libc::PTRACE_SETREGS, tid, 0, &raw const *registers as usize).map(drop)
    }

    /// Whether a thread stops before its call, as the kernel says.
    fn is_entry(&self, tid: pid_t) -> io::Result<bool> {
        const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
        let mut info = [0u8; 96];
        ptrace(GET_SYSCALL_INFO, tid, info.len(), info.as_mut_ptr() as usize)?;
        Ok(info[0] == 1)
    }

    fn at_call(&mut self, tid: pid_t) -> io::Result<()> {
        if self.is_entry(tid)? { self.enter(tid) } else { self.leave(tid) }
    }

    /// Before a call is carried out.
    fn enter(&mut self, tid: pid_t) -> io::Result<()> {
        let mut registers = self.registers(tid)?;
        let Some((call, change)) = self.read_call(tid, &registers) else {
            return self.enter_read(tid, registers);
        };
        let number = self.calls.len();
        let writes = call.moves;
        self.calls.push(call);
        let here = self.plan.at() == Some(number);
        let mut at_exit = AtExit::Nothing;
        match self.plan {
            Plan::Kill(_) if here => {
                (self.hit)();
                kill(self.pid);
                registers.orig_rax = u64::MAX;
                self.set_registers(tid, &registers)?;
                return Ok(());
            }
            Plan::Torn(_) if here => {
                (self.hit)();
                if writes && registers.rdx > 1 {
                    registers.rdx /= 2;
                    self.set_registers(tid, &registers)?;
                }
                at_exit = AtExit::Kill;
            }
            Plan::Fail { at, errno, sticky } if here || sticky && number > at => {
                if here {
                    (self.hit)();
                }
                registers.orig_rax = u64::MAX;
                self.set_registers(tid, &registers)?;
                at_exit = AtExit::Fail(errno);
            }
            Plan::Hold(_) if here => (self.hit)(),
            _ => {}
        }
        if let Some(change) = &change {
            self.disk.before(change);
        }
        self.threads.entry(tid).or_default().inside = Some((number, change, at_exit));
        Ok(())
    }

    /// Before a call that reads, if it is one.
    fn enter_read(&mut self, tid: pid_t, mut registers: libc::user_regs_struct) -> io::Result<()> {
        if !self.plan.is_of_reads() && self.plan != Plan::Watch {
            return Ok(());
        }
        let Some(call) = self.read_of(tid, &registers) else { return Ok(()) };
        let here = self.plan.is_of_reads() && self.plan.at() == Some(self.reads.len());
        let number = self.reads.len();
        let moves = call.moves;
        self.reads.push(call);
        match self.plan {
            Plan::FailRead { errno, .. } if here => {
                (self.hit)();
                registers.orig_rax = u64::MAX;
                self.set_registers(tid, &registers)?;
                self.threads.entry(tid).or_default().inside = Some((number, None, AtExit::Fail(errno)));
            }
            Plan::ShortRead(_) if here && moves => {
                (self.hit)();
                registers.rdx = registers.rdx.min(1);
                self.set_registers(tid, &registers)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What a call reads below the folder, if it does.
    fn read_of(&self, tid: pid_t, registers: &libc::user_regs_struct) -> Option<Call> {
        let (a, b) = (registers.rdi, registers.rsi);
        let here = libc::AT_FDCWD as u32 as u64;
        let call = |name: &'static str, path: Option<String>| Some(Call { name, path: path?, moves: false });
        match registers.orig_rax as c_long {
            libc::SYS_open => call("open", self.path_at(tid, here as i32, a)),
            libc::SYS_openat | libc::SYS_openat2 => call("open", self.path_at(tid, a as i32, b)),
            libc::SYS_read | libc::SYS_pread64 => {
                Some(Call { name: "read", path: self.path_of(tid, a as i32)?, moves: true })
            }
            libc::SYS_getdents64 => call("getdents", self.path_of(tid, a as i32)),
            libc::SYS_fstat => call("stat", self.path_of(tid, a as i32)),
            libc::SYS_stat | libc::SYS_lstat => call("stat", self.path_at(tid, here as i32, a)),
            libc::SYS_newfstatat | libc::SYS_statx => call("stat", self.path_at(tid, a as i32, b)),
            libc::SYS_readlink => call("readlink", self.path_at(tid, here as i32, a)),
            libc::SYS_readlinkat => call("readlink", self.path_at(tid, a as i32, b)),
            _ => None,
        }
    }

    /// After a call.
    fn leave(&mut self, tid: pid_t) -> io::Result<()> {
        let Some((_, change, at_exit)) = self.threads.entry(tid).or_default().inside.take() else {
            return Ok(());
        };
        let mut registers = self.registers(tid)?;
        if let AtExit::Fail(errno) = at_exit {
            registers.rax = i64::from(-errno) as u64;
            self.set_registers(tid, &registers)?;
        }
        if let Some(change) = change
            && (registers.rax as i64) >= 0
        {
            self.disk.after(change);
        }
        if at_exit == AtExit::Kill {
            kill(self.pid);
        }
        Ok(())
    }

    /// What a call changes below the folder, if it does.
    fn read_call(&self, tid: pid_t, registers: &libc::user_regs_struct) -> Option<(Call, Option<Change>)> {
        let (a, b, c, d) = (registers.rdi, registers.rsi, registers.rdx, registers.r10);
        let here = libc::AT_FDCWD as u32 as u64;
        let at = |dir: u64, name: u64| self.path_at(tid, dir as i32, name);
        let of = |fd: u64| self.path_of(tid, fd as i32);
        let simple = |name: &'static str, path: String| Call { name, path, moves: false };
        let write = |name: &'static str, path: Option<String>| {
            let path = path?;
            let change = (!path.ends_with(" (deleted)")).then(|| Change::Write(path.clone()));
            Some((Call { name, path, moves: true }, change))
        };
        let sync = |name: &'static str, path: Option<String>| {
            let path = path?;
            Some((simple(name, path.clone()), Some(Change::Sync(path))))
        };
        let open = |path: Option<String>, flags: u64| {
            let (path, flags) = (path?, flags as i32);
            if flags & (libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY | libc::O_RDWR) == 0 {
                return None;
            }
            let change = if flags & libc::O_CREAT != 0 {
                Some(Change::Create(path.clone()))
            } else {
                (flags & libc::O_TRUNC != 0).then(|| Change::Write(path.clone()))
            };
            Some((simple("open", path), change))
        };
        // A name that leads out of the folder on one side is none of ours.
        let rename = |from: Option<String>, to: Option<String>| {
            let (from, to) = (from?, to?);
            Some((simple("rename", to.clone()), Some(Change::Rename(from, to))))
        };
        let link = |from: Option<String>, to: Option<String>| {
            let (from, to) = (from?, to?);
            Some((simple("link", to.clone()), Some(Change::Link(from, to))))
        };
        let remove = |path: Option<String>| {
            let path = path?;
            Some((simple("unlink", path.clone()), Some(Change::Remove(path))))
        };
        let mkdir = |path: Option<String>| {
            let path = path?;
            Some((simple("mkdir", path.clone()), Some(Change::MakeDir(path))))
        };
        let other = |name: &'static str, path: Option<String>| Some((simple(name, path?), None));
        match registers.orig_rax as c_long {
            libc::SYS_open => open(at(here, a), b),
            libc::SYS_creat => open(at(here, a), (libc::O_CREAT | libc::O_WRONLY) as u64),
            libc::SYS_openat => open(at(a, b), c),
            // Its flags are the first word of what the third argument points to.
            libc::SYS_openat2 => open(at(a, b), self.word(c)?),
            libc::SYS_write => write("write", of(a)),
            libc::SYS_pwrite64 => write("pwrite", of(a)),
            // Its third argument counts buffers: halved, the end of what was to be written is gone.
            libc::SYS_writev => write("writev", of(a)),
            libc::SYS_sendfile => {
                write("sendfile", of(a)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_copy_file_range => {
                write("copy_file_range", of(c)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_ioctl if b == 0x4004_9409 => {
                write("ficlone", of(a)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_truncate => {
                write("truncate", at(here, a)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_ftruncate => {
                write("ftruncate", of(a)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_fallocate => {
                write("fallocate", of(a)).map(|(call, change)| (Call { moves: false, ..call }, change))
            }
            libc::SYS_fsync => sync("fsync", of(a)),
            libc::SYS_fdatasync => sync("fdatasync", of(a)),
            libc::SYS_syncfs => of(a).map(|path| (simple("syncfs", path), Some(Change::SyncAll))),
            libc::SYS_rename => rename(at(here, a), at(here, b)),
            libc::SYS_renameat | libc::SYS_renameat2 => rename(at(a, b), at(c, d)),
            libc::SYS_link => link(at(here, a), at(here, b)),
            libc::SYS_linkat => link(at(a, b), at(c, d)),
            libc::SYS_symlink => other("symlink", at(here, b)),
            libc::SYS_symlinkat => other("symlink", at(b, c)),
            libc::SYS_unlink | libc::SYS_rmdir => remove(at(here, a)),
            libc::SYS_unlinkat => remove(at(a, b)),
            libc::SYS_mkdir => mkdir(at(here, a)),
            libc::SYS_mkdirat => mkdir(at(a, b)),
            libc::SYS_chmod => other("chmod", at(here, a)),
            libc::SYS_fchmod => other("fchmod", of(a)),
            libc::SYS_fchmodat => other("chmod", at(a, b)),
            libc::SYS_utimensat if b == 0 => other("utimensat", of(a)),
            libc::SYS_utimensat => other("utimensat", at(a, b)),
            _ => None,
        }
    }

    /// A word of the program's memory.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.as_ref()?.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_ne_bytes(bytes))
    }

    /// The file behind a descriptor, relative to the folder.
    fn path_of(&self, tid: pid_t, fd: i32) -> Option<String> {
        let target = std::fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok()?;
        self.relative(&target)
    }

    /// The file a call names, relative to the folder.
    fn path_at(&self, tid: pid_t, dir: i32, name: u64) -> Option<String> {
        let mut bytes = vec![0; libc::PATH_MAX as usize];
        let n = self.memory.as_ref()?.read_at(&mut bytes, name).ok()?;
        let end = bytes[..n].iter().position(|&b| b == 0)?;
        let name = Path::new(std::ffi::OsStr::from_bytes(&bytes[..end]));
        let base = if name.is_absolute() {
            PathBuf::new()
        } else if dir == libc::AT_FDCWD {
            std::fs::read_link(format!("/proc/{tid}/cwd")).ok()?
        } else {
            std::fs::read_link(format!("/proc/{tid}/fd/{dir}")).ok()?
        };
        let mut path = PathBuf::new();
        for component in base.join(name).components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => drop(path.pop()),
                other => path.push(other),
            }
        }
        self.relative(&path)
    }

    fn relative(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(self.folder).ok()?.to_string_lossy().into_owned())
    }
}
