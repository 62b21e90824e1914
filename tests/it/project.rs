//! A project in a temporary folder, and the real binary run in it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A pipeline of two chunks and a combine on the built-in model, without waiting.
pub const SMALL: &str = r#"[pipeline]
personas = "personas"
output = "transcripts/{persona}.md"

[provider]
kind = "simulator"

[simulator]
latency = "0s"

[model]
name = "gpt-6-luna"
max_output_tokens = 4000

[limits]
concurrency = 16

[retry]
base = "1ms"
max = "5ms"

[prices."gpt-6-luna"]
input = 0.10
cached_input = 0.01
cache_write = 0.125
output = 0.50

[prompts]
system = "prompts/system.md"
context = "prompts/persona.md"

[[node]]
id = "chunk-1"
prompt = "prompts/chunk.md"
vars = { title = "Arriving" }

[[node]]
id = "chunk-2"
prompt = "prompts/chunk.md"
vars = { title = "Leaving" }

[[node]]
id = "combine"
needs = ["chunk-*"]
prompt = "prompts/combine.md"
"#;

/// The folder of a project; removed when it is dropped.
#[must_use]
pub struct Project {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Project {
    /// An empty folder.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("septet-test-").tempdir().unwrap();
        Self {
            folder,
            environment: Vec::new(),
        }
    }

    /// [`SMALL`] with its prompts and this many personas `p00`, `p01`, ….
    pub fn small(personas: usize) -> Self {
        let mut project = Self::empty()
            .file("pipeline.toml", SMALL)
            .file("prompts/system.md", "You write down a conversation.\n")
            .file(
                "prompts/persona.md",
                "# {{ persona.id }}\n\n{{ persona.profile }}\n",
            )
            .file("prompts/chunk.md", "Write the part \"{{ vars.title }}\".\n")
            .file(
                "prompts/combine.md",
                "Join:\n{% for need in needs %}\n## {{ need.id }}\n{{ need.text }}\n{% endfor %}\n",
            );
        for i in 0..personas {
            project = project.file(
                &format!("personas/p{i:02}/profile.md"),
                &format!("Person number {i}.\n"),
            );
        }
        project
    }

    /// The project as it is shipped in the repository.
    pub fn shipped() -> Self {
        let project = Self::empty();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(root.join("pipeline.toml"), project.path("pipeline.toml")).unwrap();
        for folder in ["prompts", "personas"] {
            copy(&root.join(folder), &project.path(folder));
        }
        project
    }

    /// Writes a file.
    pub fn file(self, path: &str, text: &str) -> Self {
        self.write(path, text);
        self
    }

    /// Changes `pipeline.toml`: the text must be there.
    pub fn with(self, from: &str, to: &str) -> Self {
        self.edit("pipeline.toml", from, to);
        self
    }

    /// Sets a variable for the binary.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Points the pipeline at an OpenAI-compatible server.
    pub fn at(self, url: &str) -> Self {
        let provider = format!("kind = \"openai\"\nname = \"test\"\nbase_url = \"{url}\"");
        self.with("kind = \"simulator\"", &provider).without_simulator()
    }

    fn without_simulator(self) -> Self {
        let text = self.read("pipeline.toml");
        let Some(start) = text.find("[simulator]") else {
            return self;
        };
        let end = text[start..]
            .find("\n\n")
            .map_or(text.len(), |end| start + end + 2);
        self.write("pipeline.toml", format!("{}{}", &text[..start], &text[end..]));
        self
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}:\n{text}");
        self.write(path, text.replacen(from, to, 1));
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    pub fn read_bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The names in a folder, sorted; none if it does not exist.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// When each file of the project was written, those of the cache apart.
    pub fn written(&self) -> Vec<(PathBuf, std::time::SystemTime)> {
        let mut open = vec![self.folder.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true if path.ends_with("cache") => {}
                    true => open.push(path),
                    false => found.push((path.clone(), fs::metadata(&path).unwrap().modified().unwrap())),
                }
            }
        }
        found.sort();
        found
    }

    /// The command, ready to be started.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_septet"));
        command.args(args).current_dir(self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for variable in [
            "NO_COLOR",
            "CLICOLOR",
            "CLICOLOR_FORCE",
            "OPENAI_API_KEY",
            "COLUMNS",
        ] {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        Ran::of(self.command(args).output().unwrap(), self)
    }

    /// Runs `septet run --json` with these arguments.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Events {
        let args: Vec<&str> = ["run", "--json"].iter().chain(args).copied().collect();
        Events::of(&self.run(&args))
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Replaces what no two runs have in common by something as wide: names of runs, times, keys,
/// durations.
pub fn settled() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b", "YYYYMMDD-hhmmss-[id]");
    settings.add_filter(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "YYYY-MM-DD hh:mm:ss");
    settings.add_filter(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "YYYY-MM-DD hh:mm");
    settings.add_filter(r"\b\d{4}-\d\d(  +|\n)", "YYYY-MM$1");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[key]");
    settings.add_filter(r"\bkey( +)[0-9a-f]{8,16}\b", "key$1[key]");
    settings.add_filter(r"\b\d+\.\ds\b", "[s]");
    settings
}

/// What a run of the binary left behind.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
    folder: String,
}

impl Ran {
    /// What a process left behind that was started in a project.
    pub fn of(output: Output, project: &Project) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
            folder: project.folder.path().display().to_string(),
        }
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard error with what differs from run to run replaced.
    pub fn errors(&self) -> String {
        self.stderr.replace(&self.folder, "[folder]")
    }
}

/// The lines of `--json`.
#[derive(Debug)]
pub struct Events {
    pub all: Vec<Value>,
    pub code: Option<i32>,
}

impl Events {
    #[track_caller]
    pub fn of(ran: &Ran) -> Self {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}\n{}", ran.stderr))
        };
        Self {
            all: ran.stdout.lines().map(parse).collect(),
            code: ran.code,
        }
    }

    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{:#?}", self.all.last());
        self
    }

    /// The last line.
    #[track_caller]
    pub fn summary(&self) -> &Value {
        let last = self.all.last().expect("some output");
        assert_eq!(last["event"], "run_finished");
        last
    }

    /// A figure of the last line, such as `calls.sent`.
    #[track_caller]
    pub fn figure(&self, path: &str) -> u64 {
        let value = path.split('.').fold(self.summary(), |value, name| &value[name]);
        value.as_u64().unwrap_or_else(|| panic!("{path} is {value}"))
    }

    pub fn named(&self, event: &str) -> Vec<&Value> {
        self.all.iter().filter(|value| value["event"] == event).collect()
    }

    /// `PERSONA/NODE` of the nodes with this status.
    pub fn nodes(&self, status: &str) -> Vec<String> {
        let finished = self.named("node_finished");
        let matching = finished.into_iter().filter(|node| node["status"] == status);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut names: Vec<String> = matching
            .map(|node| format!("{}/{}", text(&node["persona"]), text(&node["node"])))
            .collect();
        names.sort();
        names
    }
}

/// `septet simulate` on a free port, ended when it is dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_septet"));
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
        let start = line
            .find("http://")
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        let url: String = line[start..].split_whitespace().next().unwrap().to_owned();
        Self { child, url }
    }

    /// The server's own counters.
    pub fn stats(&self) -> Value {
        let body = self.request("GET", "/stats");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body:?}"))
    }

    /// A plain request, as a witness that shares no code with septet.
    pub fn request(&self, method: &str, path: &str) -> String {
        self.send(method, path, "")
    }

    /// The same with a body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> String {
        let host = self.url.trim_start_matches("http://").split('/').next().unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
