//! The machine's side: folders that nobody may write to, something else in the place of a file, too
//! few open files or too little memory, a cache that goes while it is used, a clock that is set
//! back. Nothing that was paid for is lost or paid again. The server counts.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt::Running;
use crate::project::{Events, Project, Ran, Server};

/// Who owns nothing and may do nothing: permissions do not bind root.
const NOBODY: u32 = 65534;

/// True if there is somebody whom permissions bind: whoever runs the tests, or for root somebody else,
/// as whom the binary is started. Where that cannot be, these tests say why and end. With `CI=true` on
/// Linux it must be, unless this machine has no other user at all.
fn permissions_bind() -> bool {
    static BIND: OnceLock<bool> = OnceLock::new();
    *BIND.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return true;
        }
        let why = match (somebody_else_is_there(), binary_for_somebody_else()) {
            (Ok(()), Ok(_)) => return true,
            (Err(why), _) => why,
            (Ok(()), Err(why)) => {
                let required =
                    cfg!(target_os = "linux") && std::env::var_os("CI").is_some_and(|ci| ci == "true");
                assert!(!required, "{why}");
                why.clone()
            }
        };
        _ = writeln!(std::io::stderr(), "not tried: {why}");
        false
    })
}

/// # Errors
/// If root cannot be somebody else here: in a container whose only user is root, say.
fn somebody_else_is_there() -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    lchown(file.path(), Some(NOBODY), Some(NOBODY))
        .map_err(|error| format!("root can give no file to uid {NOBODY}: {error}"))?;
    let mut probe = Command::new("/bin/sh");
    probe.args(["-c", "exit 0"]).current_dir("/");
    starts_as_somebody_else(probe)
        .map_err(|error| format!("root can start no program as uid {NOBODY}: {error}"))
}

fn starts_as_somebody_else(mut command: Command) -> Result<(), String> {
    let ran = command.uid(NOBODY).gid(NOBODY).output();
    match ran.map(|output| output.status) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Which binary somebody else can start: the one that was built (`false`), or only a copy of it in the
/// folder of a project (`true`), where the folder of the build is root's own.
fn binary_for_somebody_else() -> &'static Result<bool, String> {
    static COPY: OnceLock<Result<bool, String>> = OnceLock::new();
    COPY.get_or_init(|| {
        let project = Project::small(0);
        lchown(project.path("."), Some(NOBODY), Some(NOBODY)).map_err(|error| error.to_string())?;
        if starts_as_somebody_else(project.command(&["--version"])).is_ok() {
            return Ok(false);
        }
        match starts_as_somebody_else(from_a_copy(&project, &project.command(&["--version"]))) {
            Ok(()) => Ok(true),
            Err(error) => Err(format!(
                "uid {NOBODY} can start the binary neither where it was built nor in {}: {error}; set `TMPDIR` to a \
                 folder that everybody can come to and start programs in",
                std::env::temp_dir().display()
            )),
        }
    })
}

/// The same command with a copy of its program in the folder of the project, which goes with it.
fn from_a_copy(project: &Project, command: &Command) -> Command {
    let copy = project.path("septet-of-the-test");
    if !copy.exists() {
        fs::copy(command.get_program(), &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    }
    let mut same = Command::new(copy);
    same.args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    in_its_place(&mut same, project, command);
    same
}

/// Gives a command the folder and the environment of another one.
fn in_its_place(command: &mut Command, project: &Project, of: &Command) {
    command.current_dir(project.path("."));
    for (name, value) in of.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// The command of the binary as somebody whom permissions bind, to whom the project belongs.
fn bound(project: &Project, command: Command) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return command;
    }
    let command = match binary_for_somebody_else() {
        Ok(true) => from_a_copy(project, &command),
        _ => command,
    };
    as_somebody_else(project, command)
}

/// The command as somebody to whom the project belongs.
fn as_somebody_else(project: &Project, mut command: Command) -> Command {
    if nix::unistd::geteuid().is_root() {
        every(&project.path("."), &mut |path, _| {
            lchown(path, Some(NOBODY), Some(NOBODY)).unwrap()
        });
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Goes through a folder and all in it, the folders before what is in them.
fn every(path: &Path, what: &mut impl FnMut(&Path, &fs::Metadata)) {
    let meta = fs::symlink_metadata(path).unwrap();
    what(path, &meta);
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            every(&entry.unwrap().path(), what);
        }
    }
}

/// What the binary does as somebody whom permissions bind.
fn run_bound(project: &Project, args: &[&str]) -> Ran {
    ran(project, bound(project, project.command(args)))
}

fn ran(project: &Project, mut command: Command) -> Ran {
    Ran::of(command.output().unwrap(), project)
}

/// True if that somebody can write into this folder of the project.
fn can_write(project: &Project, folder: &str) -> bool {
    let mut probe = Command::new("sh");
    let script = format!("printf x 2>/dev/null > '{folder}/probe' && rm '{folder}/probe'");
    probe.args(["-c", &script]).current_dir(project.path("."));
    as_somebody_else(project, probe)
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[track_caller]
fn allow(project: &Project, path: &str, mode: u32) {
    fs::set_permissions(project.path(path), Permissions::from_mode(mode)).unwrap();
}

/// Takes away the right to write, or gives it back, in all of a folder.
fn allow_all(project: &Project, path: &str, folders: u32, files: u32) {
    every(&project.path(path), &mut |path, meta| {
        let mode = if meta.is_dir() { folders } else { files };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    });
}

/// Every request that was answered was answered once.
#[track_caller]
fn paid_once(server: &Server, requests: u64) {
    let stats = server.stats();
    assert_eq!(stats["bodies"]["answered"], requests, "{stats}");
    assert_eq!(stats["bodies"]["paid_twice"], 0, "{stats}");
}

#[track_caller]
fn says(ran: &Ran, texts: &[&str]) {
    for text in texts {
        assert!(ran.stderr.contains(text), "{text:?} is not in\n{}", ran.stderr);
    }
}

#[test]
fn in_a_folder_that_nobody_may_write_to_nothing_is_called() {
    if !permissions_bind() {
        return;
    }
    let server = Server::start(&[]);
    let project = Project::small(2).at(&server.url);
    allow(&project, ".", 0o555);
    assert!(
        !can_write(&project, "."),
        "permissions bind nobody here: run the tests as another user"
    );
    let run = run_bound(&project, &["run"]).code(3);
    says(
        &run,
        &[
            "cannot make ./cache: Permission denied",
            "hint: make the folder of `pipeline.toml` writable",
        ],
    );
    paid_once(&server, 0);
    allow(&project, ".", 0o755);
    run_bound(&project, &["run"]).code(0);
    paid_once(&server, 6);
}

#[test]
fn with_a_cache_that_nobody_may_write_to_nothing_is_called() {
    if !permissions_bind() {
        return;
    }
    let server = Server::start(&[]);
    let project = Project::small(3).at(&server.url);
    run_bound(&project, &["run", "--max", "1"]).code(0);
    allow_all(&project, "cache", 0o555, 0o444);
    assert!(!can_write(&project, "cache"));
    let run = run_bound(&project, &["run"]).code(3);
    says(
        &run,
        &[
            "cache/lock: Permission denied",
            "hint: make `cache/` writable",
            "nothing paid is lost",
        ],
    );
    // What is up to date needs no cache.
    run_bound(&project, &["run", "--max", "1"]).code(0);
    paid_once(&server, 3);
    allow_all(&project, "cache", 0o755, 0o644);
    run_bound(&project, &["run"]).code(0);
    paid_once(&server, 9);
}

#[test]
fn transcripts_that_cannot_be_written_are_written_later_without_a_call() {
    if !permissions_bind() {
        return;
    }
    // Nobody may write there, and nobody may even look.
    for mode in [0o555, 0o000] {
        let server = Server::start(&[]);
        let project = Project::small(2).at(&server.url);
        fs::create_dir(project.path("transcripts")).unwrap();
        allow(&project, "transcripts", mode);
        assert!(!can_write(&project, "transcripts"));
        let run = run_bound(&project, &["run"]).code(1);
        says(
            &run,
            &[
                "✗ p00  cannot ",
                "`transcripts/p00.md`: Permission denied (os error 13) (transcripts/p00.md)",
                "hint: make the folder of the transcripts writable for who runs septet; what was paid for is stored",
            ],
        );
        paid_once(&server, 6);
        allow(&project, "transcripts", 0o755);
        run_bound(&project, &["run"]).code(0);
        paid_once(&server, 6);
        assert_eq!(project.names("transcripts"), ["p00.md", "p01.md"]);
    }
}

#[test]
fn a_folder_in_the_place_of_a_transcript_fails_its_persona_alone() {
    let server = Server::start(&[]);
    let project = Project::small(2).at(&server.url);
    fs::create_dir_all(project.path("transcripts/p00.md")).unwrap();
    let run = project.run(&["run"]).code(1);
    says(&run, &["✗ p00  `transcripts/p00.md` is not a file", "✓ p01"]);
    fs::remove_dir(project.path("transcripts/p00.md")).unwrap();
    project.run(&["run"]).code(0);
    paid_once(&server, 6);
    assert_eq!(project.names("transcripts"), ["p00.md", "p01.md"]);
}

/// `sh` that sets a limit before it becomes septet.
fn limited(project: &Project, limit: &str, args: &[&str]) -> Command {
    let septet = project.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limit} && exec \"$@\""), "sh"]);
    shell.arg(septet.get_program()).args(septet.get_args());
    in_its_place(&mut shell, project, &septet);
    shell
}

#[test]
fn few_open_files_are_fewer_calls_in_flight_and_no_outage() {
    let server = Server::start(&["--latency", "100ms", "--jitter", "0"]);
    let project = Project::small(30)
        .at(&server.url)
        .with("concurrency = 16", "concurrency = 400");
    let run = ran(&project, limited(&project, "ulimit -n 64", &["run"])).code(0);
    says(
        &run,
        &["only 64 files open at once (`ulimit -n`): 16 calls in flight at most, instead of 400"],
    );
    assert!(!run.stderr.contains("does not answer"), "{}", run.stderr);
    assert!(run.stderr.contains("90 ok\n"), "without a fault: {}", run.stderr);
    paid_once(&server, 90);
    let most = server.stats()["most_in_flight"].as_u64().unwrap();
    assert!(most <= 16, "{most}");
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let server = Server::start(&["--latency", "1500ms", "--jitter", "0"]);
    let project = Project::small(40)
        .at(&server.url)
        .with("concurrency = 16", "concurrency = 80");
    let run = ran(&project, limited(&project, "ulimit -Sn 64", &["run"])).code(0);
    assert!(!run.stderr.contains("ulimit"), "{}", run.stderr);
    paid_once(&server, 120);
    let most = server.stats()["most_in_flight"].as_u64().unwrap();
    assert!(most > 16, "{most}");
}

#[test]
fn with_far_too_few_open_files_that_is_said_and_the_next_run_goes_on() {
    let server = Server::start(&[]);
    let project = Project::small(4).at(&server.url);
    for files in 8..24 {
        let run = ran(
            &project,
            limited(&project, &format!("ulimit -n {files}"), &["run"]),
        );
        assert!(matches!(run.code, Some(0..=3)), "{files}: {run:?}");
        match run.code {
            Some(0) => continue,
            _ => says(&run, &["Too many open files"]),
        }
        let hint = "raise the limit of open files (`ulimit -n`)";
        assert!(
            run.stderr.replace("\n", " ").contains(hint),
            "{files}: {}",
            run.stderr
        );
    }
    project.run(&["run"]).code(0);
    paid_once(&server, 12);
    assert_eq!(project.names("transcripts").len(), 4);
}

#[test]
#[cfg(target_os = "linux")] // `ulimit -v`
fn a_huge_persona_costs_no_memory_that_the_others_need() {
    let server = Server::start(&[]);
    let project = Project::small(3).at(&server.url);
    let huge = vec![b'x'; 50_000_000];
    project.write("personas/p01/huge.md", &huge);
    project.write("personas/p02/huge.md", &huge);
    project.write("personas/p02/other.md", &huge);
    let run = ran(&project, limited(&project, "ulimit -v 1500000", &["run"])).code(1);
    says(
        &run,
        &[
            "✗ p02  the files of one persona may have 64 MB together",
            "2 written, 1 failed",
        ],
    );
    paid_once(&server, 6);
    // As much as that in a prompt is refused before anything is sent.
    project.edit(
        "prompts/persona.md",
        "persona.profile",
        "persona.huge or persona.profile",
    );
    project.write("personas/p00/huge.md", "Small.");
    fs::remove_file(project.path("personas/p02/other.md")).unwrap();
    let run = ran(&project, limited(&project, "ulimit -v 1500000", &["run"])).code(1);
    says(&run, &["✓ p00", "16 MB"]);
    paid_once(&server, 9);
}

/// However little memory there is, what was paid is there for the next run; a call that was in flight
/// where a process ended may be paid again.
#[test]
#[cfg(target_os = "linux")] // `ulimit -v`
fn too_little_memory_loses_nothing() {
    let server = Server::start(&[]);
    let project = Project::small(3).at(&server.url);
    project.write("personas/p01/huge.md", vec![b'x'; 50_000_000]);
    let mut killed = 0;
    for kilobytes in [250_000, 350_000, 450_000, 600_000] {
        let run = ran(
            &project,
            limited(&project, &format!("ulimit -v {kilobytes}"), &["run"]),
        );
        killed += u64::from(run.code.is_none());
    }
    project.run(&["run"]).code(0);
    let stats = server.stats();
    assert_eq!(stats["bodies"]["answered"], 9, "{stats}");
    let again = stats["bodies"]["paid_twice"].as_u64().unwrap();
    assert!(again <= killed * 9, "{stats}");
}

/// A run of 20 personas, two calls at a time, that something happens to after its fifth answer.
fn meanwhile(project: &Project, happens: impl FnOnce()) -> (Events, String) {
    let mut running = Running::start(project, &[]);
    running.wait_for("node_finished", 5);
    happens();
    running.end_and_errors()
}

fn slow() -> (Server, Project) {
    let server = Server::start(&["--latency", "150ms", "--jitter", "0"]);
    let project = Project::small(8)
        .at(&server.url)
        .with("concurrency = 16", "concurrency = 2");
    (server, project)
}

#[test]
fn a_cache_that_is_deleted_under_a_run_stops_it_and_the_next_begins_anew() {
    let (server, project) = slow();
    let (run, errors) = meanwhile(&project, || fs::remove_dir_all(project.path("cache")).unwrap());
    assert_eq!((run.code, &run.summary()["outcome"]), (Some(3), &"fatal".into()));
    assert!(run.figure("calls.sent") < 24, "it stops");
    assert!(
        !errors.contains("next run reads") && !errors.contains("not paid twice"),
        "{errors}"
    );
    assert!(
        errors.contains("was moved or deleted while septet was at work"),
        "{errors}"
    );
    let paid = server.stats()["bodies"]["answered"].as_u64().unwrap();
    let next = project.json(&[]).code(0);
    assert_eq!(next.figure("calls.sent"), 24);
    // What was answered before, and is gone, is paid once more and no oftener.
    let stats = server.stats();
    assert_eq!(stats["bodies"]["paid_twice"], paid, "{stats}");
    assert_eq!(stats["bodies"]["most_requests"], 2, "{stats}");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn a_cache_that_is_moved_under_a_run_goes_on_where_it_is_and_that_is_told() {
    let (server, project) = slow();
    let (cache, elsewhere) = (project.path("cache"), project.path("elsewhere"));
    let (run, errors) = meanwhile(&project, || fs::rename(&cache, &elsewhere).unwrap());
    assert_eq!((run.code, run.figure("calls.ok")), (Some(0), 24));
    assert!(errors.contains("put it back before the next run"), "{errors}");
    fs::rename(&elsewhere, &cache).unwrap();
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    paid_once(&server, 24);
}

/// What is written over under a run is still served; who looks is told, and can have it put back.
#[test]
fn a_journal_that_is_damaged_under_a_run_is_served_told_and_repaired() {
    let (server, project) = slow();
    let journal = project.path("cache/journal/00000001.log");
    let (run, _) = meanwhile(&project, || {
        let mut file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
        file.seek(SeekFrom::Start(2_000)).unwrap();
        file.write_all(&[0x55; 60]).unwrap();
    });
    assert_eq!((run.code, run.figure("calls.ok")), (Some(0), 24));
    assert_eq!(project.json(&["--verify"]).code(0).figure("calls.sent"), 0);
    let found = project.run(&["cache", "verify"]).code(1);
    assert!(
        found.stdout.contains("cannot be read: checksum"),
        "{}",
        found.stdout
    );
    project.run(&["cache", "verify", "--repair"]).code(0);
    project.run(&["cache", "verify"]).code(0);
    fs::remove_dir_all(project.path("cache/store")).unwrap();
    assert_eq!(project.json(&["--verify"]).code(0).figure("calls.sent"), 0);
    paid_once(&server, 24);
}

#[test]
fn a_journal_that_is_cut_short_under_a_run_is_told_and_written_back() {
    let (server, project) = slow();
    let journal = project.path("cache/journal/00000001.log");
    let (run, errors) = meanwhile(&project, || {
        fs::OpenOptions::new()
            .write(true)
            .open(&journal)
            .unwrap()
            .set_len(1_000)
            .unwrap();
    });
    assert_eq!((run.code, run.figure("calls.ok")), (Some(0), 24));
    assert!(
        errors.contains("was changed by somebody else while septet was at work"),
        "{errors}"
    );
    assert!(errors.contains("`septet cache verify --repair`"), "{errors}");
    project.run(&["cache", "verify"]).code(1);
    project.run(&["cache", "verify", "--repair"]).code(0);
    fs::remove_dir_all(project.path("cache/store")).unwrap();
    assert_eq!(project.json(&["--verify"]).code(0).figure("calls.sent"), 0);
    paid_once(&server, 24);
}

#[test]
fn trees_that_are_damaged_or_deleted_under_a_run_are_built_again() {
    for deleted in [false, true] {
        let (server, project) = slow();
        let store = project.path("cache/store");
        let (run, _) = meanwhile(&project, || match deleted {
            true => fs::remove_dir_all(&store).unwrap(),
            false => {
                let mut db = fs::OpenOptions::new()
                    .write(true)
                    .open(store.join("0001/db"))
                    .unwrap();
                db.seek(SeekFrom::Start(500)).unwrap();
                db.write_all(&[0x55; 60_000]).unwrap();
            }
        });
        assert_eq!((run.code, run.figure("calls.ok")), (Some(0), 24));
        let next = project.run(&["run", "--verify"]).code(0);
        says(&next, &["built again from", "calls     0"]);
        project.run(&["cache", "verify"]).code(0);
        paid_once(&server, 24);
    }
}

#[test]
fn a_cache_that_is_closed_to_all_under_a_run_ends_well_or_is_told() {
    if !permissions_bind() {
        return;
    }
    let (server, project) = slow();
    let mut command = bound(&project, project.command(&["run", "--json"]));
    let mut running = Running::of(command.spawn().unwrap());
    running.wait_for("node_finished", 5);
    allow_all_from_below(&project, "cache", 0o000);
    let (run, errors) = running.end_and_errors();
    // What is open stays open.
    assert_eq!((run.code, run.figure("calls.ok")), (Some(0), 24), "{errors}");
    // It cannot be looked at, which is not the same as gone.
    assert!(!errors.contains("moved or deleted"), "{errors}");
    let refused = run_bound(&project, &["run", "--verify"]).code(3);
    says(&refused, &["Permission denied", "nothing paid is lost"]);
    allow(&project, "cache", 0o755);
    allow_all(&project, "cache", 0o755, 0o644);
    let next = run_bound(&project, &["run", "--verify"]).code(0);
    says(&next, &["calls     0"]);
    paid_once(&server, 24);
}

fn allow_all_from_below(project: &Project, path: &str, mode: u32) {
    let mut paths = Vec::new();
    every(&project.path(path), &mut |path, _| paths.push(path.to_owned()));
    for path in paths.iter().rev() {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_symlink_in_a_circle_fails_as_a_persona_alone() {
    let server = Server::start(&[]);
    let project = Project::small(2).at(&server.url);
    symlink("loop", project.path("personas/loop")).unwrap();
    symlink("pong", project.path("personas/ping")).unwrap();
    symlink("ping", project.path("personas/pong")).unwrap();
    let run = project.run(&["run"]).code(1);
    says(&run, &["cannot read `personas/loop`: ", "2 written, 3 failed"]);
    paid_once(&server, 6);
    for name in ["loop", "ping", "pong"] {
        fs::remove_file(project.path("personas").join(name)).unwrap();
    }
    project.run(&["run"]).code(0);
    paid_once(&server, 6);
}

/// A library that shifts the time of day of the process that loads it.
#[cfg(target_os = "linux")]
const SHIFTED: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(id, time);
  if (result == 0 && id == CLOCK_REALTIME) time->tv_sec += atol(getenv("SHIFTED_BY"));
  return result;
}
"#;

#[test]
#[cfg(target_os = "linux")]
fn a_clock_that_is_set_back_between_two_runs_changes_nothing() {
    let server = Server::start(&[]);
    let project = Project::small(3).at(&server.url).file("shift.c", SHIFTED);
    let (source, library) = (project.path("shift.c"), project.path("shift.so"));
    // There is one: it linked this test.
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    let shifted = |days: i64, args: &[&str]| {
        let mut command = project.command(args);
        command
            .env("LD_PRELOAD", &library)
            .env("SHIFTED_BY", (days * 86_400).to_string());
        ran(&project, command)
    };
    let dates = |ran: &Ran| {
        let lines = ran
            .stdout
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with("total"));
        lines.map(|line| line[..8].to_owned()).collect::<Vec<_>>()
    };
    shifted(400, &["run", "--max", "2"]).code(0);
    shifted(400, &["run", "--max", "2", "--refresh", "p00/chunk-1"]).code(0);
    let run = shifted(0, &["run"]).code(0);
    says(&run, &["calls     3: 3 ok"]);
    let listed = dates(&project.run(&["runs"]).code(0));
    assert!(
        listed.len() == 3 && listed[0] > listed[2],
        "in the order in which they were: {listed:?}"
    );
    let last = project.run(&["runs", "last", "--json"]).code(0).stdout;
    assert!(last.contains(&listed[2]), "{last}");
    // What is asked for anew now is newer than an answer of next year.
    let run = shifted(0, &["run", "--refresh", "p00/chunk-2"]).code(0);
    says(&run, &["1 ok"]);
    let show = project.run(&["show", "p00/chunk-2", "--json"]).code(0).stdout;
    assert!(show.contains(&listed[2][..4]), "{show}");
    // And years back, with a month's budget over what other months have spent.
    project.edit("pipeline.toml", "[limits]", "[limits]\nbudget_usd_month = 0.01");
    project.write("personas/p02/profile.md", "Somebody else.\n");
    let run = shifted(-4_000, &["run"]).code(0);
    says(&run, &["3 ok"]);
    shifted(-4_000, &["run"]).code(0);
    shifted(0, &["run", "--verify"]).code(0);
    let stats = server.stats();
    // 9 at first, two that were asked for anew, three of another person.
    assert_eq!(stats["bodies"]["answered"], 12, "{stats}");
    assert_eq!(stats["bodies"]["paid_twice"], 2, "{stats}");
}

#[test]
fn a_cache_that_nobody_may_write_to_can_be_read() {
    if !permissions_bind() {
        return;
    }
    let project = Project::small(2);
    run_bound(&project, &["run", "-q", "--max", "1"]).code(0);
    let reading: [&[&str]; 8] = [
        &["plan"],
        &["why", "p00"],
        &["show", "p00/combine", "--answer"],
        &["graph", "p00"],
        &["runs"],
        &["runs", "last"],
        &["cache", "stats"],
        &["cache", "ls"],
    ];
    let timeless = |ran: Ran| {
        let lines = ran.stdout.lines().filter(|line| !line.starts_with("ends "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let before: Vec<String> = reading
        .iter()
        .map(|args| timeless(run_bound(&project, args).code(0)))
        .collect();
    allow_all(&project, "cache", 0o555, 0o444);
    assert!(!can_write(&project, "cache"));
    for (args, before) in reading.iter().zip(before) {
        let read = run_bound(&project, args).code(0);
        says(
            &read,
            &["note: this cache cannot be written to: what is in it is read from a copy"],
        );
        if !matches!(args[0], "cache") {
            // How large the trees are, and how old an answer is, differ.
            assert_eq!(timeless(read), before, "{args:?}");
        }
    }
    // Where there is none and none can be made, nothing was paid for.
    allow_all(&project, "cache", 0o755, 0o644);
    fs::remove_dir_all(project.path("cache")).unwrap();
    allow(&project, ".", 0o555);
    let plan = run_bound(&project, &["plan"]).code(0);
    assert!(plan.stdout.contains("0 cached, 4 to call"), "{}", plan.stdout);
    allow(&project, ".", 0o755);
}

#[test]
fn a_copy_to_read_goes_with_ctrl_c() {
    let project = Project::small(1);
    project.run(&["run", "-q"]).code(0);
    // Somebody holds the cache, and copying its journal takes for ever.
    let held = fs::File::open(project.path("cache/lock")).unwrap();
    held.lock().unwrap();
    let journal = project.path("cache/journal/00000001.log");
    fs::remove_file(&journal).unwrap();
    nix::unistd::mkfifo(
        &journal,
        nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
    )
    .unwrap();
    fs::create_dir(project.path("tmp")).unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = project
            .command(&["plan"])
            .env("TMPDIR", project.path("tmp"))
            .spawn()
            .unwrap();
        let copy = || project.names("tmp").first().cloned();
        while !copy().is_some_and(|copy| project.path("tmp").join(copy).join("journal").exists()) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(project.names("tmp"), [""; 0]);
    }
}
