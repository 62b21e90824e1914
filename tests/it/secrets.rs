//! What must never leave: the key, in whatever a server sends back and wherever it is written; and
//! what must never come in: redirects, files and variables in templates, escape sequences.

use std::fs;

use serde_json::json;

use crate::project::{Project, Ran};
use crate::wire::{self, Wire, answer, error_with, good, response};

const KEY: &str = "sk-canary-7f3a9b2c1d4e5f60718293a4b5c6d7e8";

/// The key in place of a job's name.
const JOB: &str = "the name of a job";

/// A project that sends the key, with everything on that makes a program talk.
fn with_key(project: Project) -> Project {
    project
        .with(
            "name = \"test\"",
            "name = \"test\"\napi_key_env = \"SEPTET_TEST_KEY\"",
        )
        .with("[retry]", "[retry]\nattempts = 2")
        .variable("SEPTET_TEST_KEY", KEY)
        .variable("RUST_LOG", "trace")
        .variable("RUST_BACKTRACE", "full")
}

#[track_caller]
fn silent(case: &str, ran: &Ran) {
    for (name, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        assert!(
            !text.contains("canary-7f3a"),
            "{case}: the key is in {name}:\n{text}"
        );
    }
}

/// Every file below the folder of the project.
fn files(project: &Project) -> Vec<std::path::PathBuf> {
    let (mut open, mut found) = (vec![project.path(".")], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path),
            }
        }
    }
    found
}

/// A server that sends the key back in everything that it says of a failure.
#[test]
fn the_key_that_a_server_sends_back_is_nowhere() {
    let said = format!("wrong header Authorization: Bearer {KEY}");
    let html = format!("<html><head><title>Bearer {KEY}</title></head><body>{KEY}</body></html>");
    let odd = format!("x-request-id: {KEY}\r\nretry-after: 0\r\n");
    let rows = [
        ("a 400", error_with("400 Bad Request", &odd, KEY, &said)),
        (
            "a 401",
            error_with("401 Unauthorized", &odd, "invalid_api_key", &said),
        ),
        (
            "a 422 in a field",
            response(
                "422 Unprocessable Entity",
                "",
                &json!({"detail": [{"loc": [KEY], "msg": said, "type": KEY}]}).to_string(),
            ),
        ),
        (
            "a 500",
            error_with("500 Internal Server Error", &odd, "server_error", &said),
        ),
        (
            "a page of a proxy",
            response("502 Bad Gateway", "content-type: text/html\r\n", &html),
        ),
        (
            "a page instead of an answer",
            response("200 OK", "content-type: text/html\r\n", &html),
        ),
        (
            "JSON that is no answer",
            response("200 OK", "", &json!({ "echo": said }).to_string()),
        ),
        (
            JOB,
            response(
                "200 OK",
                "",
                &json!({ "id": KEY, "status": "queued" }).to_string(),
            ),
        ),
        (
            "JSON that breaks off",
            response("200 OK", "", &format!("{{\"headers\": \"{said}")),
        ),
        (
            "a content type",
            response("200 OK", &format!("content-type: {KEY}\r\n"), "no"),
        ),
        (
            "a redirect",
            response(
                "307 Temporary Redirect",
                &format!("location: https://elsewhere.example/?key={KEY}\r\n"),
                "",
            ),
        ),
        ("what is no HTTP", format!("{said}\r\n\r\n").into_bytes()),
        (
            "half an answer",
            response("200 OK", "content-length: 999\r\n", &said),
        ),
    ];
    for (case, bytes) in rows {
        // Once for each request, and then it works: nobody is to wait for it.
        let server = Wire::start(move |number, body| match number {
            1 => bytes.clone(),
            _ => good(body),
        });
        let mut project = with_key(Project::small(2).at(&server.url()));
        if case == JOB {
            project = project.with(
                "name = \"test\"",
                "name = \"test\"\napi = \"responses\"\nbackground = true",
            );
        }
        for args in [
            &["run", "--json"][..],
            &["run"],
            &["plan", "--json"],
            &["check", "--ping"],
            &["show", "p00/chunk-1", "--json"],
            &["show", "p00/chunk-1"],
            &["why", "p00"],
            &["runs", "--json"],
            &["runs"],
            &["cache", "stats"],
            &["cache", "ls", "--rejected"],
            &["cache", "export", "all.jsonl"],
        ] {
            silent(&format!("{case}, {args:?}"), &project.run(args));
        }
        for path in files(&project) {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(12).any(|window| window == b"canary-7f3a9");
            assert!(!found, "{case}: the key is in {}", path.display());
        }
    }
}

/// A password of a proxy is a secret too.
#[test]
fn the_password_of_a_proxy_is_in_no_message() {
    let nowhere = Wire::nowhere();
    for (variable, base_url) in [
        ("HTTP_PROXY", "http://llm.example/v1"),
        ("HTTPS_PROXY", "https://llm.example/v1"),
    ] {
        let project = Project::small(1)
            .at(base_url)
            .with("name = \"test\"", "name = \"test\"\nconnect_timeout = \"2s\"")
            .variable(variable, &format!("http://user:canary-7f3a@{nowhere}"));
        let ran = project.run(&["check", "--ping"]).code(3);
        silent(variable, &ran);
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn a_redirect_is_not_followed_and_the_key_stays() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let other = Wire::start(|_, body| good(body));
        let location = format!("location: {}/chat/completions\r\n", other.url());
        let server = Wire::always(response(status, &location, ""));
        let run = with_key(Project::small(2).at(&server.url()))
            .with("concurrency = 16", "concurrency = 1")
            .json(&[])
            .code(3);
        assert_eq!((server.calls(), other.calls()), (1, 0), "{status}");
        assert_eq!(
            run.named("run_stopped")[0]["error"]["kind"],
            "redirect",
            "{status}"
        );
    }
}

#[test]
fn a_proxy_is_used_where_the_environment_names_one_and_not_for_this_machine() {
    // Plain HTTP goes to the proxy as it is …
    let proxy = Wire::start(|_, body| good(body));
    let at = |base_url: &str, variable: &str| {
        Project::small(1)
            .at(base_url)
            .variable(variable, &proxy.url().replace("/v1", ""))
    };
    let run = at("http://llm.example/v1", "HTTP_PROXY").json(&[]).code(0);
    assert_eq!((run.figure("calls.ok"), proxy.calls()), (3, 3));
    assert!(
        proxy
            .lines()
            .iter()
            .all(|line| line.starts_with("POST http://llm.example/v1/chat/completions ")),
        "{:?}",
        proxy.lines()
    );
    // … HTTPS through a tunnel, so that it sees no key and no prompt.
    let proxy = Wire::always(response("403 Forbidden", "", ""));
    let project = Project::small(1)
        .at("https://llm.example/v1")
        .variable("https_proxy", &proxy.url().replace("/v1", ""));
    let project = with_key(project);
    let told = project.run(&["check", "--ping"]).code(3);
    silent("a tunnel", &told);
    assert_eq!(proxy.lines(), ["CONNECT llm.example:443 HTTP/1.1"]);
    // What is on this machine, and what is excepted, is asked directly.
    let proxy = Wire::always(response("403 Forbidden", "", ""));
    let server = Wire::start(|_, body| good(body));
    let project = with_key(Project::small(1).at(&server.url())).variable("HTTP_PROXY", &proxy.url());
    project.json(&[]).code(0);
    assert_eq!((server.calls(), proxy.calls()), (3, 0));
    let project = Project::small(1)
        .at("http://llm.invalid/v1")
        .with("[retry]", "[retry]\nattempts = 1")
        .variable("HTTP_PROXY", &proxy.url())
        .variable("NO_PROXY", "llm.invalid");
    project.run(&["check", "--ping"]).code(3);
    assert_eq!(proxy.calls(), 0);
}

/// Templates see what they are given, and nothing of the machine.
#[test]
fn a_template_reads_no_file_and_no_variable() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "canary-7f3a").unwrap();
    let path = secret.path().display().to_string();
    let wants = [
        "{{ env('SEPTET_TEST_KEY') }}".to_owned(),
        "{{ environ.SEPTET_TEST_KEY }}".to_owned(),
        "{{ getenv('SEPTET_TEST_KEY') }}".to_owned(),
        "{{ read('PATH') }}".to_owned(),
        "{{ load_file('PATH') }}".to_owned(),
        "{{ 'PATH' | read }}".to_owned(),
        "{% include 'PATH' %}".to_owned(),
        "{% import 'PATH' as x %}{{ x }}".to_owned(),
        "{% from 'PATH' import x %}{{ x }}".to_owned(),
        "{% extends 'PATH' %}".to_owned(),
        "{% include '../../../../../../etc/passwd' %}".to_owned(),
        "{{ persona.__class__ }}".to_owned(),
        "{{ self }}".to_owned(),
    ];
    for want in wants {
        let template = want.replace("PATH", &path);
        let project = Project::small(1)
            .file("prompts/chunk.md", &template)
            .variable("SEPTET_TEST_KEY", KEY);
        let ran = project.run(&["run"]);
        assert!(matches!(ran.code, Some(1 | 2)), "{template}: {}", ran.stderr);
        silent(&template, &ran);
        assert_eq!(project.names("transcripts"), [""; 0], "{template}");
    }
}

/// Characters that a terminal would obey, or that turn the direction of writing.
fn obeyed(text: &str) -> Option<char> {
    text.chars()
        .find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c))
}

/// Answers and names are data: nothing that is printed of them moves the cursor.
#[test]
fn escape_sequences_in_answers_errors_and_names_reach_no_terminal() {
    const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}1A\u{202e}z\r";
    let server = Wire::start(|_, body| match body.contains("Leaving") {
        true => error_with("400 Bad Request", "", HOSTILE, HOSTILE),
        false => wire::json("200 OK", &{
            let mut odd = answer(&format!("{HOSTILE}{}", body.len()), "stop");
            odd["model"] = json!(HOSTILE);
            odd
        }),
    });
    let mut project = Project::small(1).at(&server.url());
    #[cfg(unix)]
    {
        project = project.file("personas/n\u{1b}[2J\u{9b}1A/profile.md", "Somebody.\n");
    }
    project = project.with("title = \"Arriving\"", "title = \"Arri\u{202e}ving\"");
    for args in [
        &["run"][..],
        &["run", "--json"],
        &["plan"],
        &["plan", "--json"],
        &["check"],
        &["show", "p00/chunk-1"],
        &["show", "p00/chunk-2"],
        &["show", "p00/chunk-1", "--json"],
        &["why", "p00"],
        &["why", "p00/chunk-1"],
        &["graph", "p00"],
        &["runs"],
        &["cache", "ls"],
        &["cache", "ls", "--json"],
    ] {
        let ran = project.run(args);
        for (name, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            let json = args.contains(&"--json");
            let found = obeyed(text).filter(|c| !(json && ('\u{202a}'..='\u{202e}').contains(c)));
            assert_eq!(found, None, "{args:?}, {name}:\n{text:?}");
        }
    }
}
