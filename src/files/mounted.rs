//! On what kind of file system a folder lies, going by the table of mounts of Linux; elsewhere that is
//! not known. Reads that table and nothing else.

use std::path::{Path, PathBuf};

/// Kinds of file systems whose files lie on another machine, or are handed on by a program: locks and
/// syncs there are what the other side makes of them.
const REMOTE: [&str; 19] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
    "virtiofs",
];

/// The same by way of FUSE: `fuse.NAME`. Others of FUSE are disks of this machine (`fuseblk`, ntfs).
const REMOTE_BY_FUSE: [&str; 12] = [
    "s3fs",
    "gcsfuse",
    "rclone",
    "sshfs",
    "davfs2",
    "glusterfs",
    "ceph-fuse",
    "curlftpfs",
    "blobfuse",
    "goofys",
    "juicefs",
    "mfs",
];

/// The kind of a network file system that a folder lies on, such as `nfs4`; `None` for a disk of this
/// machine, and where it is not known.
pub fn network(folder: &Path) -> Option<String> {
    let real = nearest_real(folder)?;
    let kind = kind(&real)?;
    is_remote(&kind).then_some(kind)
}

/// The folder without symlinks, or the nearest above it that exists.
fn nearest_real(folder: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(folder).ok()?;
    absolute
        .ancestors()
        .find_map(|folder| std::fs::canonicalize(folder).ok())
}

#[cfg(target_os = "linux")]
fn kind(folder: &Path) -> Option<String> {
    // Any number of mounts, but not without an end.
    const MOST: u64 = 4 << 20;
    let mut table = Vec::new();
    let file = std::fs::File::open("/proc/self/mountinfo").ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MOST), &mut table).ok()?;
    kind_in(&table, folder)
}

/// macOS and Windows have no such table to read.
#[cfg(not(target_os = "linux"))]
fn kind(_: &Path) -> Option<String> {
    None
}

fn is_remote(kind: &str) -> bool {
    match kind.strip_prefix("fuse.") {
        Some(name) => REMOTE_BY_FUSE.contains(&name),
        None => REMOTE.contains(&kind),
    }
}

/// The kind of file system that a folder lies on, by a table as `proc(5)` describes it: of the mounts
/// above the folder the longest, and of several in one place the last, which hides the others.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "only Linux has the table")
)]
fn kind_in(table: &[u8], folder: &Path) -> Option<String> {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(mount);
    let above = mounts.filter(|(place, _)| folder.starts_with(place));
    let nearest = above.max_by_key(|(place, _)| place.components().count());
    nearest.map(|(_, kind)| kind)
}

/// Place and kind of a line: `36 35 98:0 /root /place opts [optional …] - kind source opts`.
fn mount(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = path(&unescaped(fields.nth(4)?));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let kind = String::from_utf8_lossy(kind).into_owned();
    (!kind.is_empty()).then_some((place, kind))
}

/// A field in which space, tab, newline and backslash are written as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        match escape(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

fn escape(text: &[u8]) -> Option<u8> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = text else {
        return None;
    };
    Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
}

#[cfg(unix)]
fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = r"21 27 0:20 / /proc rw,nosuid - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:35 / /home rw,relatime shared:20 master:3 - nfs4 server:/export/home rw,vers=4.2
41 40 254:1 / /home/anna/disk rw - xfs /dev/vdb rw
42 27 0:40 / /mnt/my\040share\134odd rw - cifs //server/share rw
43 27 0:41 / /mnt/ssh rw - fuse.sshfs anna@server: rw
44 27 8:17 / /mnt/stick rw - fuseblk /dev/sdb1 rw
45 27 0:50 / /mnt/twice rw - nfs server:/a rw
46 45 254:2 / /mnt/twice rw - ext4 /dev/vdc rw
47 27 0:51 / /mnt/win rw,noatime - 9p C:\134 rw
no mount at all
48 27 0:52 / /mnt/broken rw
";

    #[test]
    fn the_nearest_mount_above_says_what_it_is() {
        for (folder, kind, remote) in [
            ("/work/project/cache", "ext4", false),
            ("/", "ext4", false),
            ("/home/anna/project/cache", "nfs4", true),
            ("/home", "nfs4", true),
            // A name that begins like a mount is not below it.
            ("/homely/project", "ext4", false),
            ("/home/anna/disk/project", "xfs", false),
            ("/mnt/my share\\odd/cache", "cifs", true),
            ("/mnt/ssh/a", "fuse.sshfs", true),
            ("/mnt/stick/a", "fuseblk", false),
            ("/mnt/twice/a", "ext4", false),
            ("/mnt/win/Users", "9p", true),
            ("/mnt/broken/a", "ext4", false),
        ] {
            let found = kind_in(TABLE.as_bytes(), Path::new(folder));
            assert_eq!(found.as_deref(), Some(kind), "{folder}");
            assert_eq!(is_remote(kind), remote, "{folder}");
        }
        assert_eq!(kind_in(b"", Path::new("/work")), None);
    }

    #[test]
    fn only_what_is_an_escape_is_one() {
        for (field, text) in [
            (r"a\040b", "a b"),
            (r"\011\012\134", "\t\n\\"),
            (r"a\04", r"a\04"),
            (r"a\", r"a\"),
            (r"\999", r"\999"),
            (r"\777", r"\777"),
        ] {
            assert_eq!(unescaped(field.as_bytes()), text.as_bytes(), "{field}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_a_table() {
        assert_eq!(kind(Path::new("/proc/self")).as_deref(), Some("proc"));
        // What does not exist yet lies where it will be made.
        assert_eq!(
            nearest_real(Path::new("/proc/no/such/folder")),
            Some("/proc".into())
        );
        assert_eq!(network(Path::new("/proc/no/such/folder")), None);
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(table: Vec<u8>, folder in "/[a-z/]{0,20}") {
            _ = kind_in(&table, Path::new(&folder));
        }
    }
}
