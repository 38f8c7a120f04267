//! This machine: its name, this boot of it, and when its processes started.

use std::sync::OnceLock;

/// When a process started, in ticks since boot; none if it has ended, though its parent may not have taken that in.
#[cfg(target_os = "linux")]
pub(super) fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn process_start(_pid: u32) -> Option<u64> {
    None
}

/// Names this boot of the machine; `None` where that cannot be known.
pub fn boot_id() -> Option<String> {
    // No process outlives its boot.
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(ask_boot_id).clone()
}

/// Whether something was written down in this boot: by its id, without one only where the system has none.
#[cfg(target_os = "linux")]
pub fn is_this_boot(id: &[u8]) -> bool {
    // A build with nothing to do does this and little else: no text is made of it.
    let mut bytes = [0; 64];
    let path = c"/proc/sys/kernel/random/boot_id";
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let read = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut bytes));
    read.is_ok_and(|length| !id.is_empty() && bytes[..length].trim_ascii() == id)
}

/// Whether something was written down in this boot: by its id, without one only where the system has none.
#[cfg(not(target_os = "linux"))]
pub fn is_this_boot(id: &[u8]) -> bool {
    boot_id().unwrap_or_default().as_bytes() == id
}

#[cfg(target_os = "linux")]
fn ask_boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(target_os = "macos")]
fn ask_boot_id() -> Option<String> {
    let mut id = [0u8; 64];
    let mut length = id.len();
    // SAFETY: the name ends with a zero byte, and the system writes at most `length` bytes into `id`.
    let answer = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            id.as_mut_ptr().cast(),
            &mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    let id = std::str::from_utf8(id.get(..length)?).ok()?.trim_end_matches('\0');
    (answer == 0 && !id.is_empty()).then(|| id.to_owned())
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn ask_boot_id() -> Option<String> {
    None
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
