//! Power cuts of real file systems: at a call of a build the file system is shut down without writing what it holds
//! in memory, mounted again, and the next build must go on. `scripts/power-cut` makes the file systems and runs it, as
//! root.

use std::os::fd::AsRawFd;

use super::*;

/// `FS_IOC_SHUTDOWN` of ext4, xfs and f2fs.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// What its argument says of the journal: write it, or drop it.
const FLUSH_JOURNAL: u32 = 1;
const DROP_ALL: u32 = 2;

/// A mounted file system on a loop device.
struct Mounted {
    folder: PathBuf,
    device: String,
    image: PathBuf,
    options: String,
}

fn must(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Mounted {
    fn from_environment() -> Mounted {
        let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name}: see scripts/power-cut"));
        Mounted {
            folder: of("TMPDIR").into(),
            device: of("PLANEXE_CUT_DEVICE"),
            image: of("PLANEXE_CUT_IMAGE").into(),
            options: of("PLANEXE_CUT_OPTIONS"),
        }
    }

    fn snapshot(&self) -> PathBuf {
        self.image.with_extension("cut")
    }

    /// Cuts the power. A file system that cannot be shut down has its device copied at this moment, in one piece.
    fn cut(&self, how: u32) {
        let folder = File::open(&self.folder).expect("the file system");
        // SAFETY: the argument is read, and outlives the call.
        if unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN as _, &raw const how) } != 0 {
            must(
                "cp",
                &["--reflink=always", self.image.to_str().unwrap(), self.snapshot().to_str().unwrap()],
            );
        }
    }

    /// Starts again with what is on the disk.
    fn start_again(&self) {
        let (folder, image) = (self.folder.to_str().unwrap(), self.image.to_str().unwrap());
        until("the file system to be free", || {
            Command::new("umount").arg(folder).output().ok()?.status.success().then_some(())
        });
        if self.snapshot().exists() {
            must("losetup", &["-d", &self.device]);
            must("mv", &[self.snapshot().to_str().unwrap(), image]);
            must("losetup", &[&self.device, image]);
        }
        must("mount", &["-o", &self.options, &self.device, folder]);
    }
}

#[test]
#[ignore = "needs root and file systems of its own: scripts/power-cut"]
fn a_power_cut_of_a_real_file_system_at_every_call() {
    let mounted = Mounted::from_environment();
    assert!(may_trace());
    for case in power_cases() {
        try_points(&case, "power cut for real", 60, |n, faults| {
            let before = case.server.total();
            let plan = Plan::Kill(n);
            write_tree(case.dir(), &case.before);
            // SAFETY: no memory is involved.
            unsafe { libc::sync() };
            let how = if n % 2 == 0 { DROP_ALL } else { FLUSH_JOURNAL };
            let (traced, _) = case.go_on_with(&case.before, plan, &mut || mounted.cut(how));
            let reached = traced.hit(plan).is_some();
            let at = format!("cut {how} at {}", name_of(&traced, plan));
            case.settle();
            if reached {
                mounted.start_again();
                let mut left = read_tree(case.dir());
                if case.together {
                    start_anew(&mut left);
                    write_tree(case.dir(), &left);
                }
                case.check_next(&at, before, faults);
            }
            reached
        });
    }
}
