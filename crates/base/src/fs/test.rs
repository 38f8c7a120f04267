//! Tests of reading and writing files.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::copying::LINK_FROM;
use super::*;
use crate::record::Digest;

pub(super) fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    list_dir(dir).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
}

#[test]
fn private_files_are_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config/planexe/keys.toml");
    write_private(&path, b"one").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    write_private(&path, b"two").unwrap();
    assert_eq!((mode(&path), read(&path).unwrap()), (0o600, b"two".to_vec()));
}

#[test]
fn messages_name_file_and_cause() {
    let error = FsError::new("/run/swot.json", "write", ErrorKind::StorageFull.into());
    assert!(error.is_out_of_space());
    let error = error.within(Path::new("/run"));
    assert_eq!(error.to_string(), "cannot write `swot.json`: no space left on device");
    let error = read(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/nowhere/at/all`: no such file or directory");
    let error = FsError::new("x", "write", io::Error::from_raw_os_error(40));
    assert!(!error.to_string().contains("os error"), "{error}");
}

#[test]
fn write_atomic_replaces_whole_and_leaves_nothing_behind() {
    let dir = dir();
    let path = dir.path().join("a.json");
    for (bytes, durability) in [(&b"one"[..], Durability::Unsynced), (b"two", Durability::Synced)] {
        write_atomic(&path, bytes, durability).unwrap();
        assert_eq!(read(&path).unwrap(), bytes);
    }
    assert_eq!(names(dir.path()), ["a.json"]);
}

#[test]
fn write_atomic_keeps_permissions() {
    let dir = dir();
    let path = dir.path().join("a.sh");
    write_atomic(&path, b"one", Durability::Unsynced).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
    write_atomic(&path, b"two", Durability::Unsynced).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o750);
}

#[test]
fn a_fault_at_any_point_leaves_the_old_content() {
    let dir = dir();
    let path = dir.path().join("a.json");
    for sticky in [false, true] {
        write_atomic(&path, b"old", Durability::Synced).unwrap();
        let mut faults = 0;
        loop {
            fault::arm(faults, sticky);
            let result = write_atomic(&path, b"new", Durability::Synced);
            if !fault::disarm() {
                result.unwrap();
                break;
            }
            let error = result.unwrap_err();
            assert!(error.is_out_of_space(), "{error}");
            let now = read(&path).unwrap();
            // The last point is the directory's sync: the name has been taken.
            assert!(now == b"old" || now == b"new", "{now:?}");
            if !sticky {
                assert_eq!(names(dir.path()), ["a.json"]);
            }
            faults += 1;
        }
        assert!(faults >= 4, "{faults}");
        assert_eq!(read(&path).unwrap(), b"new");
    }
}

#[test]
fn a_final_name_that_is_a_link_is_replaced_not_followed() {
    let dir = dir();
    let outside = dir.path().join("outside");
    write_atomic(&outside, b"mine", Durability::Unsynced).unwrap();
    let link = dir.path().join("link.json");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    write_atomic(&link, b"theirs", Durability::Unsynced).unwrap();
    assert_eq!(read(&outside).unwrap(), b"mine");
    assert_eq!(kind(&link).unwrap(), Some(FileKind::File));
}

#[test]
fn appending_refuses_a_link() {
    let dir = dir();
    let outside = dir.path().join("outside");
    write_atomic(&outside, b"mine", Durability::Unsynced).unwrap();
    let link = dir.path().join("events.jsonl");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let error = append_line(&link, b"{}", Durability::Unsynced).unwrap_err();
    assert!(error.to_string().ends_with("a symbolic link, which is not followed"), "{error}");
    assert_eq!(read(&outside).unwrap(), b"mine");
}

#[test]
fn paths_that_lead_out_are_refused() {
    let dir = dir();
    let run = dir.path().join("run");
    make_dirs(&run.join("sub/deep"), Durability::Synced).unwrap();
    make_dirs(&dir.path().join("elsewhere"), Durability::Unsynced).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), run.join("out")).unwrap();
    std::os::unix::fs::symlink(run.join("sub"), run.join("in")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("nothing"), run.join("dangling")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", run.join("final")).unwrap();
    for (path, fine) in [
        ("a.json", true),
        ("sub/a.json", true),
        ("sub/deep/new/newer/a.json", true),
        ("in/a.json", false),
        ("final", true),
        ("out/a.json", false),
        ("out/new/a.json", false),
        ("dangling/a.json", false),
        ("../a.json", false),
        ("sub/../../a.json", false),
        ("/etc/passwd", false),
        ("", false),
    ] {
        let result = ensure_inside(&run, &run.join(path));
        assert_eq!(result.is_ok(), fine, "{path}: {result:?}");
    }
}

#[test]
fn temporary_names_are_unique_and_keep_the_extension() {
    let target = Path::new("reports/a.html");
    let (a, b) = (temp_beside(target), temp_beside(target));
    assert_ne!(a, b);
    assert_eq!(a.parent(), target.parent());
    assert_eq!(a.extension().unwrap(), "html");
    let long = format!("{}.json", "ü".repeat(125));
    let temp = temp_beside(Path::new(&long));
    let name = temp.file_name().unwrap().to_str().unwrap();
    assert!(name.len() <= NAME_MAX && name.ends_with("ü.json"), "{name}");
}

#[test]
fn a_command_writes_to_a_name_that_is_not_hidden() {
    let temp = temp_for_command(Path::new("out/chart.svg"));
    let name = temp.file_name().unwrap().to_str().unwrap();
    assert!(temp.starts_with("out") && is_temp_name(name) && !name.starts_with('.'), "{name}");
    assert!(name.ends_with("chart.svg"), "{name}");
    assert_eq!(temp_for_command(Path::new("a.md")).parent(), Some(Path::new("")));
}

#[test]
fn what_is_not_finished_has_no_name_of_a_sidecar() {
    for (target, end) in [("a.txt.DONE", ".DONE.tmp"), ("a.txt.status", ".status.tmp"), ("a.txt", "a.txt")] {
        let temp = temp_beside(Path::new(target));
        assert!(temp.to_str().unwrap().ends_with(end), "{}", temp.display());
    }
}

#[test]
fn temps_of_the_dead_are_swept_and_no_others() {
    let dir = dir();
    let own = temp_beside(&dir.path().join("a.json"));
    let own = own.file_name().unwrap().to_str().unwrap().to_owned();
    // No process has this id: it is beyond what kernels give out.
    let dead = i32::MAX;
    let this = std::process::id();
    let parent = rustix::process::getppid().unwrap();
    let rows = [
        (format!("{TEMP_PREFIX}{dead}-0badcafe-0-a.json"), false),
        (format!(".{TEMP_PREFIX}{dead}-0badcafe-0-a.json"), false),
        (format!(".{TEMP_PREFIX}{dead}-0badcafe-0-a.txt.status"), false),
        (format!("{TEMP_PREFIX}{this}-0badcafe-0-a.json"), false),
        (format!("{TEMP_PREFIX}{parent}-0badcafe-0-a.json"), true),
        (own, true),
        (format!(".{TEMP_PREFIX}x"), true),
        (format!("{TEMP_PREFIX}{dead}-notes-0-a.json"), true),
        (format!("{TEMP_PREFIX}{dead}.json"), true),
        ("a.json".to_owned(), true),
        (".planexe-tmp".to_owned(), true),
    ];
    for (name, _) in &rows {
        write_atomic(&dir.path().join(name), b"", Durability::Unsynced).unwrap();
    }
    assert_eq!(sweep_temps(dir.path()).unwrap(), 4);
    let left = names(dir.path());
    for (name, there) in rows {
        assert_eq!(left.contains(&name), there, "{name}");
    }
    assert_eq!(sweep_temps(&dir.path().join("missing")).unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_nobody_waited_for_is_gone() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    // Waits for its end and leaves it as it is.
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(id), options).unwrap();
    assert!(!process_exists(id.as_raw_nonzero().get()));
    child.wait().unwrap();
    assert!(process_exists(std::process::id() as i32));
}

#[test]
fn a_full_device_is_reported_as_such() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_, error) = primitive::write_all(&mut full, b"{}").unwrap_err();
    let error = FsError::new("/dev/full", "write", error);
    assert!(error.is_out_of_space(), "{error}");
    assert_eq!(error.to_string(), "cannot write `/dev/full`: no space left on device");
    // A device in the place of a log is none.
    let error = append_line(Path::new("/dev/full"), b"{}", Durability::Unsynced).unwrap_err();
    assert_eq!(error.to_string(), "cannot write `/dev/full`: not a regular file");
}

#[test]
fn a_short_write_is_gone_on_from() {
    struct Short(Vec<u8>, u32);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(2) {
                return Err(ErrorKind::Interrupted.into());
            }
            self.0.push(bytes[0]);
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut short = Short(Vec::new(), 0);
    write_all(&mut short, b"hello").unwrap();
    assert_eq!(short.0, b"hello");
}

#[test]
fn what_is_no_regular_file_is_refused_and_does_not_hang() {
    let dir = dir();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
        hash_file(path).unwrap_err();
        signature(path).unwrap_err();
        read(path).unwrap_err();
    }
    assert_eq!(signature(dir.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(signature(&dir.path().join("missing")).unwrap(), None);
    assert_eq!(signature(&pipe.join("below")).unwrap(), None);
    let target = dir.path().join("out");
    publish(&[(pipe, target.clone())], Durability::Unsynced).unwrap_err();
    assert_eq!(kind(&target).unwrap(), None);
}

#[test]
fn hashing_in_pieces_is_hashing() {
    let dir = dir();
    let path = dir.path().join("big");
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    write_atomic(&path, &bytes, Durability::Unsynced).unwrap();
    assert_eq!(hash_file(&path).unwrap(), (Digest::of(&bytes), 300_000));
    assert_eq!(read_tail(&path, 10).unwrap(), (bytes[299_990..].to_vec(), 300_000));
    read_capped(&path, 299_999).unwrap_err();
    assert_eq!(read_capped(&path, 300_000).unwrap().len(), 300_000);
}

#[test]
fn the_times_of_a_folder_are_found_by_no_name_too() {
    let dir = dir();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let open = OpenDir::open(dir.path()).unwrap();
    assert_eq!(open.times(c""), directory_times(dir.path()).unwrap());
    assert_eq!(open.times(c"sub"), directory_times(&dir.path().join("sub")).unwrap());
    assert_eq!(open.times(c"none"), None);
}

#[test]
fn large_files_are_linked_unless_they_have_other_names() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name);
    write_atomic(&path("small"), b"x", Durability::Unsynced).unwrap();
    write_atomic(&path("large"), &vec![7; LINK_FROM as usize], Durability::Unsynced).unwrap();
    assert!(!link_large(&path("small"), &path("s"), Durability::Unsynced).unwrap());
    assert!(link_large(&path("large"), &path("l"), Durability::Synced).unwrap());
    assert!(!link_large(&path("large"), &path("m"), Durability::Unsynced).unwrap());
    let copy = copy_to_temp(&path("large"), dir.path(), Durability::Synced).unwrap();
    let ino = |path: &Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&path("large")), ino(&path("l")));
    assert_ne!(ino(&path("large")), ino(&copy));
    assert_eq!(hash_file(&path("large")).unwrap(), hash_file(&copy).unwrap());
}

#[test]
fn a_line_that_failed_is_taken_back() {
    let dir = dir();
    let path = dir.path().join("log");
    let mut file = AppendFile::open(&path).unwrap();
    file.line(b"{\"n\":1}", Durability::Synced).unwrap();
    for after in 0..3 {
        fault::arm(after, false);
        file.line(b"{\"n\":2}", Durability::Unsynced).unwrap_err();
        assert!(fault::disarm());
    }
    file.line(b"{\"n\":3}", Durability::Synced).unwrap();
    assert_eq!(read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n");
    // If it cannot be taken back, the next line starts on its own.
    fault::arm(1, true);
    file.line(b"{\"n\":4}", Durability::Unsynced).unwrap_err();
    assert!(fault::disarm());
    file.line(b"{\"n\":5}", Durability::Unsynced).unwrap();
    assert_eq!(read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n{\"n\"\n{\"n\":5}\n");
}

#[test]
fn a_path_is_resolved_as_far_as_it_exists() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    for (path, is) in [("a/../b/./c", "b/c"), ("../x", ""), ("", "")] {
        let wanted = if path == "../x" { base.parent().unwrap().join("x") } else { base.join(is) };
        assert_eq!(resolved(&base.join(path)), wanted, "{path}");
    }
}

#[test]
fn a_new_directory_is_never_one_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    assert!(make_new_dir(&path).unwrap());
    assert!(!make_new_dir(&path).unwrap());
    assert!(make_new_dir(&path.join("a/b")).is_err());
}

/// A folder that is there already, but not for good: another thread, or this one, has made it and not synced it yet.
#[test]
fn a_folder_that_is_found_is_as_durable_as_one_that_is_made() {
    let dir = dir();
    let run = &dir.path().canonicalize().unwrap();
    let synced = |path: &str| {
        let fails = |make: &dyn Fn() -> Result<()>| {
            fault::arm(0, true);
            let failed = make().is_err();
            fault::disarm();
            failed
        };
        let (folder, file) = (run.join(path), run.join(path).join("file"));
        let make = || make_dirs(&folder, Durability::Synced);
        let make_inside = || make_dirs_inside(run, &file, Durability::Synced);
        assert!(fails(&make) && fails(&make_inside), "`{path}` is taken for durable");
        make_inside().unwrap();
        assert!(!fails(&make) && !fails(&make_inside), "`{path}` is synced again");
    };
    make_dirs(&run.join("a/b"), Durability::Unsynced).unwrap();
    synced("a/b");
    make_dirs(&run.join("c/d"), Durability::Unsynced).unwrap();
    // Below one that is not synced yet.
    assert!(make_new_dir(&run.join("c/d/e")).unwrap());
    fault::arm(0, true);
    make_dirs(&run.join("c/d"), Durability::Synced).unwrap();
    fault::disarm();
    // Made, but not synced: as between two threads.
    fault::arm(1, true);
    make_dirs(&run.join("f"), Durability::Synced).unwrap_err();
    fault::disarm();
    assert!(run.join("f").is_dir());
    synced("f");
    // Nothing is known of folders that were there before, or that could not be made.
    std::fs::create_dir(run.join("g")).unwrap();
    make_dirs(&run.join("g"), Durability::Unsynced).unwrap();
    fault::arm(0, true);
    make_dirs(&run.join("g"), Durability::Synced).unwrap();
    make_dirs(&run.join("h"), Durability::Unsynced).unwrap_err();
    fault::disarm();
    std::fs::create_dir(run.join("h")).unwrap();
    fault::arm(0, true);
    make_dirs(&run.join("h"), Durability::Synced).unwrap();
    fault::disarm();
}

#[test]
fn an_error_of_a_temporary_file_names_what_it_was_to_become() {
    let dir = tempfile::tempdir().unwrap();
    let (temp, target) = (dir.path().join(".planexe-tmp-1-0-a.txt"), dir.path().join("a.txt"));
    let error = sync_temps(&[(temp.clone(), target.clone())], &[]).unwrap_err();
    assert_eq!((error.path.as_path(), error.op), (target.as_path(), "write"));
    write_atomic(&temp, b"a", Durability::Unsynced).unwrap();
    sync_temps(&[(temp, target)], &[&dir.path().join("not there")]).unwrap();
}
