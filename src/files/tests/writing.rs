//! A file is written whole or not at all, and only when its content changed.

use proptest::prelude::*;

use super::*;

#[test]
fn new_changed_and_unchanged() {
    let disk = Disk::new();
    let write = |text: &str| {
        disk.project
            .write("transcripts/deep/ann.md", text.as_bytes())
            .unwrap()
    };
    assert_eq!(write("one"), Written::Written);
    assert_eq!(disk.holds("transcripts/deep/ann.md"), "one");
    assert_eq!(write("one"), Written::Unchanged);
    assert_eq!(write("two"), Written::Written);
    assert_eq!(write(""), Written::Written);
    assert_eq!(disk.holds("transcripts/deep/ann.md"), "");
    assert_eq!(disk.names("transcripts/deep"), ["ann.md"]);
    assert_eq!(
        disk.project.read("transcripts/deep/ann.md").unwrap().unwrap(),
        b""
    );
}

#[test]
fn paths_that_leave_the_project() {
    let disk = Disk::new();
    let refused = |path: &str| disk.project.write(path, b"x").unwrap_err().message;
    for path in [
        "../beside/a.md",
        "a/../../beside/a.md",
        "..",
        "",
        disk.beside.join("a.md").to_str().unwrap(),
    ] {
        assert!(refused(path).contains("leads out of the project"), "{path}");
    }
    assert_eq!(fs::read_dir(&disk.beside).unwrap().count(), 0);
}

#[test]
fn what_stands_in_the_way() {
    let disk = Disk::new().with("file", "x").with("folder.md/x", "x");
    let error = disk.project.write("file/ann.md", b"x").unwrap_err();
    assert!(
        error.message.starts_with("cannot write `file/ann.md`: "),
        "{error}"
    );
    insta::assert_snapshot!(disk.project.write("folder.md", b"x").unwrap_err(), @r#"
    `folder.md` is not a file
      --> folder.md
    "#);
    assert_eq!(disk.holds("file"), "x");
    assert_eq!(disk.names("."), ["file", "folder.md"]);
}

/// Readers see one content or the other, never a part or nothing.
#[test]
fn whole_for_whoever_looks() {
    let disk = Disk::new().with("t/ann.md", "0".repeat(100_000));
    std::thread::scope(|scope| {
        let project = &disk.project;
        scope.spawn(move || {
            for digit in ["1", "2", "3"].repeat(5) {
                project
                    .write("t/ann.md", digit.repeat(100_000).as_bytes())
                    .unwrap();
            }
        });
        for _ in 0..100 {
            let seen = disk.holds("t/ann.md");
            assert_eq!(seen.len(), 100_000);
            assert!(seen.bytes().all(|byte| byte == seen.as_bytes()[0]));
        }
    });
    assert_eq!(disk.names("t"), ["ann.md"]);
}

/// A killed process may leave its temporary file: the next one that writes the file takes it away.
#[test]
fn what_a_killed_process_left_is_gone_after_the_next_write() {
    let disk = Disk::new().with("t/.ann.md.septet-tmp", "half of a trans");
    disk.project.write("t/ann.md", b"whole").unwrap();
    assert_eq!(disk.names("t"), ["ann.md"]);
}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6)) {
        let disk = Disk::new();
        let mut last: Option<Vec<u8>> = None;
        for content in contents {
            let written = disk.project.write("a.md", &content).unwrap();
            let expected = if last.as_ref() == Some(&content) { Written::Unchanged } else { Written::Written };
            prop_assert_eq!(written, expected);
            prop_assert_eq!(disk.project.read("a.md").unwrap(), Some(content.clone()));
            last = Some(content);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_that_does_not_change_is_not_touched() {
        let disk = Disk::new();
        let file = disk.root.join("a.md");
        disk.project.write("a.md", b"x").unwrap();
        let before = fs::metadata(&file).unwrap();
        disk.project.write("a.md", b"x").unwrap();
        let after = fs::metadata(&file).unwrap();
        assert_eq!(
            (before.ino(), before.mtime_nsec()),
            (after.ino(), after.mtime_nsec())
        );
        disk.project.write("a.md", b"y").unwrap();
        assert_ne!(fs::metadata(&file).unwrap().ino(), before.ino());
    }

    /// A transcript is an ordinary file, not a temporary one that only its owner may read.
    #[test]
    fn permissions_are_those_of_any_file() {
        let disk = Disk::new().with("plain", "x");
        disk.project.write("a.md", b"x").unwrap();
        assert_eq!(mode(&disk.root.join("a.md")), mode(&disk.root.join("plain")));
        fs::set_permissions(disk.root.join("a.md"), PermissionsExt::from_mode(0o640)).unwrap();
        disk.project.write("a.md", b"y").unwrap();
        assert_eq!(mode(&disk.root.join("a.md")), 0o640);
    }

    #[test]
    fn symlinks_out_of_the_project_are_refused() {
        let disk = Disk::new();
        fs::write(disk.beside.join("theirs.md"), "theirs").unwrap();
        symlink(&disk.beside, disk.root.join("transcripts")).unwrap();
        symlink(disk.beside.join("theirs.md"), disk.root.join("link.md")).unwrap();
        symlink(disk.beside.join("new.md"), disk.root.join("dangling.md")).unwrap();
        symlink(disk.beside.join("new"), disk.root.join("nowhere")).unwrap();
        insta::assert_snapshot!(disk.project.write("transcripts/ann.md", b"x").unwrap_err(), @r#"
        `transcripts/ann.md` leads out of the project
          --> transcripts/ann.md

        hint: a symlink is followed only within the project: put the file itself there
        "#);
        for path in [
            "transcripts/deep/er/ann.md",
            "link.md",
            "dangling.md",
            "nowhere/ann.md",
        ] {
            assert!(disk.project.write(path, b"x").is_err(), "{path}");
        }
        assert_eq!(
            fs::read_to_string(disk.beside.join("theirs.md")).unwrap(),
            "theirs"
        );
        assert_eq!(fs::read_dir(&disk.beside).unwrap().count(), 1);
    }

    #[test]
    fn symlinks_within_the_project_stay() {
        let disk = Disk::new().with("real/ann.md", "old");
        symlink("real", disk.root.join("transcripts")).unwrap();
        symlink("real/ann.md", disk.root.join("link.md")).unwrap();
        disk.project.write("transcripts/ann.md", b"new").unwrap();
        assert_eq!(disk.holds("real/ann.md"), "new");
        disk.project.write("link.md", b"newer").unwrap();
        assert_eq!(disk.holds("real/ann.md"), "newer");
        assert!(
            fs::symlink_metadata(disk.root.join("link.md"))
                .unwrap()
                .is_symlink()
        );
    }
}
