//! What this machine has.

/// Its memory, in MiB; none where the system does not say.
#[cfg(target_os = "linux")]
pub fn memory_mebibytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024)
}

/// Its memory, in MiB; none where the system does not say.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "no crate of ours asks for the memory of the machine")]
pub fn memory_mebibytes() -> Option<u64> {
    let mut bytes = 0u64;
    let mut length = size_of::<u64>();
    // SAFETY: the name ends with a zero byte, and the system writes at most `length` bytes into `bytes`.
    let answer = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    (answer == 0 && bytes > 0).then_some(bytes >> 20)
}

/// Its memory, in MiB; none where the system does not say.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn memory_mebibytes() -> Option<u64> {
    None
}
