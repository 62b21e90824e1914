//! A project of any size in a temporary folder, the real binary run in it, and the built-in model
//! as a server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime};

use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_septet");

pub struct Project {
    folder: tempfile::TempDir,
    prompt_each: bool,
}

impl Project {
    /// Seven chunks and a combine for so many personas of about 1 KB.
    pub fn new(personas: usize) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("septet-bench-")
            .tempdir()
            .unwrap();
        let project = Self {
            folder,
            prompt_each: false,
        };
        project.write(
            "prompts/system.md",
            "You write down one part of a long conversation.\n",
        );
        project.write(
            "prompts/persona.md",
            "# {{ persona.id }}\n\n{{ persona.profile }}\n",
        );
        project.write(
            "prompts/chunk.md",
            "Write part {{ vars.part }} of the conversation.\n",
        );
        project.write(
            "prompts/combine.md",
            "Join the parts:\n{% for need in needs %}\n## {{ need.id }}\n{{ need.text }}\n{% endfor %}\n",
        );
        for i in 0..personas {
            let profile = format!("Person number {i} lives by the sea and counts the days. ").repeat(18);
            project.write(&format!("personas/p{i:06}/profile.md"), &profile);
        }
        project
    }

    /// With a prompt of its own for each chunk, so that one can be edited. Before its pipeline is written.
    pub fn prompt_each(mut self) -> Self {
        self.prompt_each = true;
        for n in 1..=7 {
            self.write(
                &format!("prompts/chunk-{n}.md"),
                "Write part {{ vars.part }} of the conversation.\n",
            );
        }
        self
    }

    /// Edits the prompt of a chunk; each `round` in another way.
    pub fn edit(&self, round: usize) {
        self.write(
            "prompts/chunk-3.md",
            &format!("Write part {{{{ vars.part }}}} of the talk, {round}.\n"),
        );
    }

    /// On the built-in model, in the process itself.
    pub fn simulator(self, latency: &str) -> Self {
        self.pipeline(&format!(
            "[provider]\nkind = \"simulator\"\n[simulator]\nlatency = \"{latency}\"\njitter = 0.0\n"
        ))
    }

    /// On a server.
    pub fn server(self, url: &str) -> Self {
        self.pipeline(&format!(
            "[provider]\nkind = \"openai\"\nbase_url = \"{url}\"\nname = \"bench\"\n"
        ))
    }

    fn pipeline(self, provider: &str) -> Self {
        let chunk = |n| {
            let prompt = if self.prompt_each {
                format!("chunk-{n}")
            } else {
                "chunk".to_owned()
            };
            format!(
                "[[node]]\nid = \"chunk-{n}\"\nprompt = \"prompts/{prompt}.md\"\nvars = {{ part = {n} }}\n"
            )
        };
        let chunks: String = (1..=7).map(chunk).collect();
        let text = format!(
            "[pipeline]\npersonas = \"personas\"\noutput = \"transcripts/{{persona}}.md\"\n{provider}\
             [model]\nname = \"m\"\nmax_output_tokens = 1000\n[limits]\nconcurrency = 64\n\
             [prompts]\nsystem = \"prompts/system.md\"\ncontext = \"prompts/persona.md\"\n{chunks}\
             [[node]]\nid = \"combine\"\nneeds = [\"chunk-*\"]\nprompt = \"prompts/combine.md\"\n"
        );
        self.write("pipeline.toml", &text);
        self
    }

    /// With so many tokens that the calls of a persona share, four characters each.
    pub fn sharing(self, tokens: usize) -> Self {
        let system = fs::read_to_string(self.path().join("prompts/system.md")).unwrap();
        for entry in fs::read_dir(self.path().join("personas")).unwrap() {
            let id = entry.unwrap().file_name().into_string().unwrap();
            // As `prompts/persona.md` puts it, with the blank line after it.
            let around = system.trim_end().len() + format!("# {id}\n\n\n\n").len();
            let text = format!("Person {id} lives by the sea and counts the days. ").repeat(tokens);
            self.write(&format!("personas/{id}/profile.md"), &text[..4 * tokens - around]);
        }
        self
    }

    /// With another text in `pipeline.toml`.
    pub fn with(self, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(self.path().join("pipeline.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        self.write("pipeline.toml", &text.replacen(from, to, 1));
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs `septet run --json` to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.json("run", args)
    }

    /// Runs a command with `--json` to its end, and watches how much memory it takes.
    pub fn json(&self, command: &str, args: &[&str]) -> Ran {
        // Not a pipe: nobody reads while it runs.
        let told = tempfile::NamedTempFile::new().unwrap();
        let mut septet = Command::new(BINARY);
        septet
            .args([command, "--json"])
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(told.reopen().unwrap())
            .stderr(Stdio::inherit());
        let (started, cpu_before) = (Instant::now(), cpu_of_children());
        let mut child = septet.spawn().unwrap();
        let mut peak_kb = 0.0_f64;
        let status = loop {
            peak_kb = peak_kb.max(peak(child.id()).unwrap_or(0.0));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let elapsed = started.elapsed().as_secs_f64();
        assert!(status.success(), "{command} ended with {status}");
        let told = fs::read_to_string(told.path()).unwrap();
        Ran {
            elapsed,
            cpu: cpu_of_children() - cpu_before,
            peak_kb,
            summary: serde_json::from_str(told.lines().last().unwrap()).unwrap(),
            stdout: told,
        }
    }

    /// Runs a command as a person does, its lines to nowhere; returns how long it took, in seconds.
    pub fn time(&self, args: &[&str]) -> f64 {
        let mut septet = Command::new(BINARY);
        septet.args(args).current_dir(self.path()).stdin(Stdio::null());
        septet.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        assert!(septet.status().unwrap().success(), "{args:?} failed");
        started.elapsed().as_secs_f64()
    }

    /// Every file but the cache's, with the time it was written: one `stat` each.
    pub fn walk(&self) -> (usize, Vec<(PathBuf, SystemTime)>) {
        let mut open = vec![self.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true if entry.file_name() == "cache" => {}
                    true => open.push(entry.path()),
                    false => found.push((entry.path(), entry.metadata().unwrap().modified().unwrap())),
                }
            }
        }
        found.sort();
        (found.len(), found)
    }
}

/// CPU of all children that have ended, in seconds.
#[cfg(unix)]
fn cpu_of_children() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

#[cfg(not(unix))]
fn cpu_of_children() -> f64 {
    0.0
}

/// The most memory that a process had so far, in kB.
fn peak(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A run of the binary.
pub struct Ran {
    elapsed: f64,
    cpu: f64,
    peak_kb: f64,
    summary: Value,
    stdout: String,
}

impl Ran {
    /// Of the whole process, in seconds.
    pub fn elapsed(&self) -> f64 {
        self.elapsed
    }

    /// CPU of the whole process, in seconds; 0 where the system does not tell.
    pub fn cpu(&self) -> f64 {
        self.cpu
    }

    /// The events of a name.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let events = self
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        events.filter(|event: &Value| event["event"] == name).collect()
    }

    /// The most memory that it had, in MB; 0 where the system does not tell.
    pub fn peak_mb(&self) -> f64 {
        self.peak_kb / 1e3
    }

    /// A figure of the last line, such as `calls.sent`.
    pub fn figure(&self, path: &str) -> f64 {
        path.split('.')
            .fold(&self.summary, |value, name| &value[name])
            .as_f64()
            .unwrap()
    }
}

/// `septet simulate` on a free port, ended when it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command
            .args(["simulate", "--port", "0", "--latency", "0ms"])
            .args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            url: line.trim().to_owned(),
        }
    }

    /// The server's own counters.
    pub fn stats(&self) -> Value {
        let host = self.url.trim_start_matches("http://").split('/').next().unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "GET /stats HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
