use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const CHILD: &str = "PLANEXE_TEST_LOCK_DIR";

/// A lock given back is free, save for the moment in which a child of another test starts.
const SOON: Wait = Wait::For(Duration::from_secs(20));

/// Not a test by itself: the other process of the tests below.
#[test]
#[expect(clippy::disallowed_methods, reason = "told by its parent what to do")]
fn other_process() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let mut lock = RunLock::acquire(Path::new(&dir), Wait::No).unwrap();
    lock.announce(&Owner::this("planexe build")).unwrap();
    println!("locked");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn start_other(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::tests::other_process", "--nocapture"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("locked")));
    child
}

#[test]
fn another_process_is_refused_told_by_whom_and_free_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(RunLock::owner(dir.path()), None);
    let mut other = start_other(dir.path());
    let Err(LockError::Held { owner: Some(owner) }) = RunLock::acquire(dir.path(), Wait::No) else {
        panic!("not held")
    };
    assert_eq!(owner.pid, other.id());
    assert_eq!(owner.command.as_deref(), Some("planexe build"));
    assert_eq!(RunLock::owner(dir.path()), Some(owner.clone()));
    let text = LockError::Held { owner: Some(owner.clone()) }.to_string();
    assert!(text.starts_with(&format!("locked by PID {} on {}", owner.pid, owner.host)), "{text}");
    let error = RunLock::acquire(dir.path(), Wait::For(Duration::from_millis(1))).unwrap_err();
    assert!(matches!(error, LockError::Held { .. }));
    other.kill().unwrap();
    other.wait().unwrap();
    // Its note is still there, and not believed.
    assert!(fs::kind(&owner_path(dir.path())).unwrap().is_some());
    assert_eq!(RunLock::owner(dir.path()), None);
    RunLock::acquire(dir.path(), SOON).unwrap();
}

#[test]
fn two_handles_of_one_process_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = RunLock::acquire(dir.path(), Wait::No).unwrap();
    assert!(fs::list_dir(dir.path()).unwrap().is_empty(), "taking the lock writes nothing");
    let mut asked = 0;
    let result = RunLock::acquire_while(dir.path(), Wait::Forever, |_| {
        asked += 1;
        asked < 3
    });
    assert!(matches!(result, Err(LockError::Held { .. })));
    assert_eq!(asked, 3);
    lock.announce(&Owner::this("planexe build")).unwrap();
    assert_eq!(RunLock::owner(dir.path()).unwrap().pid, std::process::id());
    drop(lock);
    assert_eq!(fs::kind(&owner_path(dir.path())).unwrap(), None);
    RunLock::acquire(dir.path(), SOON).unwrap();
}

#[test]
fn a_child_that_lives_on_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let lock = RunLock::acquire(dir.path(), Wait::No).unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    drop(lock);
    RunLock::acquire(dir.path(), SOON).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn status_does_not_disturb_a_starting_build() {
    let dir = tempfile::tempdir().unwrap();
    let asking = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while asking.load(std::sync::atomic::Ordering::Relaxed) {
                RunLock::owner(dir.path());
            }
        });
        // Children that other tests start share the handle from fork to exec: a few refusals
        // are theirs.
        let refused = (0..200).filter(|_| RunLock::acquire(dir.path(), Wait::No).is_err()).count();
        asking.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(refused < 50, "{refused}");
    });
}

#[test]
fn a_note_alone_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let me = Owner::this("planexe build");
    let note = |owner: &Owner| {
        fs::make_dirs(&dir.path().join(".planexe"), Durability::Unsynced).unwrap();
        fs::write_atomic(&owner_path(dir.path()), &to_json(owner), Durability::Unsynced).unwrap();
    };
    for stale in [
        Owner { pid: i32::MAX as u32, ..me.clone() },
        Owner { host: "elsewhere".into(), ..me.clone() },
        Owner { boot_id: Some("another".into()), ..me.clone() },
        Owner { process_start: Some(1), ..me.clone() },
    ] {
        note(&stale);
        assert_eq!(RunLock::owner(dir.path()), None, "{stale:?}");
    }
    fs::write_atomic(&owner_path(dir.path()), b"garbage", Durability::Unsynced).unwrap();
    assert_eq!(RunLock::owner(dir.path()), None);
    RunLock::acquire(dir.path(), Wait::No).unwrap();
}

#[test]
fn of_a_read_only_file_system_the_run_is_named() {
    let file = Path::new("/runs/x/.planexe/owner.json");
    let said =
        |kind: ErrorKind| of_run(Path::new("/runs/x"), FsError::new(file, "write", kind.into())).to_string();
    assert_eq!(said(ErrorKind::ReadOnlyFilesystem), "cannot write into `/runs/x`: read-only file system");
    assert_eq!(said(ErrorKind::PermissionDenied), "cannot write `.planexe/owner.json`: permission denied");
}

#[test]
fn no_directory_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let error = RunLock::acquire(&dir.path().join("missing"), Wait::Forever).unwrap_err();
    assert!(error.to_string().starts_with("cannot lock `"), "{error}");
    let file = dir.path().join("file");
    fs::write_atomic(&file, b"", Durability::Unsynced).unwrap();
    assert!(matches!(RunLock::acquire(&file, Wait::No), Err(LockError::Fs(_))));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "sets the trap")]
fn a_planexe_folder_that_is_a_link_is_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let inside = FOLDERS.iter().map(|name| format!(".planexe/{name}"));
    for link in std::iter::once(".planexe".to_owned()).chain(inside) {
        let dir = tempfile::tempdir().unwrap();
        if link != ".planexe" {
            fs::make_dirs(&dir.path().join(".planexe"), Durability::Unsynced).unwrap();
        }
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(&link)).unwrap();
        let mut lock = RunLock::acquire(dir.path(), Wait::No).unwrap();
        let error = lock.announce(&Owner::this("planexe build")).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write into `{link}`: not a directory of its own"));
        assert!(fs::list_dir(elsewhere.path()).unwrap().is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernels_table_is_read() {
    let table = "1: POSIX  ADVISORY  READ 11 fe:00:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 fe:00:99 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 33 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 44 00:2a:55 0 EOF\n";
    for (device, inode, noted, pid) in [
        ("fe:00", 99, None, Some(22)),
        ("fe:01", 99, None, None),
        ("fe:01", 99, Some(22), Some(22)),
        ("fe:00", 77, None, None),
        ("fe:00", 55, None, None),
        ("fe:00", 55, Some(44), Some(44)),
        ("fe:00", 55, Some(45), None),
    ] {
        assert_eq!(holder_in(table, device, inode, noted), pid, "{device} {inode} {noted:?}");
    }
}
