//! Pipelines, templates and personas.

use super::*;

#[test]
fn the_pipeline() {
    let disk = Disk::new()
        .with("pipeline.toml", "x = 1\n")
        .with("bad.toml", b"a\nb\xff");
    assert_eq!(disk.project.text("pipeline.toml").unwrap(), "x = 1\n");
    insta::assert_snapshot!(disk.project.text("pipline.toml").unwrap_err(), @r#"
    `pipline.toml` does not exist
      --> pipline.toml
    "#);
    insta::assert_snapshot!(disk.project.text("bad.toml").unwrap_err(), @r#"
    `bad.toml` is not UTF-8
      --> bad.toml:2

    hint: save it as UTF-8
    "#);
    insta::assert_snapshot!(disk.project.text(".").unwrap_err(), @r#"
    `.` is not a file
      --> .
    "#);
    let missing = Project::open(&disk.root.join("nowhere")).unwrap_err();
    assert!(missing.message.starts_with("cannot open `"), "{missing}");
    assert!(Project::open(&disk.root.join("bad.toml")).is_err());
}

/// A project may be named as people name folders: relative to where they are.
#[test]
fn a_relative_folder() {
    let here = std::env::current_dir().unwrap();
    let project = Project::open(Path::new("src")).unwrap();
    assert_eq!(project.folder(), Path::new("src"));
    assert!(project.text("lib.rs").is_ok());
    assert!(project.read("nowhere/else.rs").unwrap().is_none());
    assert_eq!(here, std::env::current_dir().unwrap());
}

#[test]
fn templates_with_what_they_include() {
    let disk = Disk::new()
        .with("prompts/a.md", "{% include 'prompts/parts/voice.md' %}{% include './prompts//c.md' %}")
        .with("prompts/b.md", "b")
        .with("prompts/c.md", "{% include 'prompts/a.md' %}{% include 'prompts/gone.md' ignore missing %}")
        .with("prompts/parts/voice.md", "{% include 'secret.md' %}{% include 'prompts/../secret.md' %}{% include 'personas/ann/profile.md' %}")
        .with("prompts/draft.md", b"\xff")
        .with("secret.md", "no")
        .with("personas/ann/profile.md", "no");
    let read = disk.project.templates(&config("")).unwrap();
    let names: Vec<&str> = read.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "prompts/a.md",
            "prompts/b.md",
            "prompts/c.md",
            "prompts/parts/voice.md"
        ]
    );
    assert_eq!(read["prompts/b.md"], "b");
}

#[test]
fn templates_that_are_not_there() {
    let errors = |disk: &Disk, extra: &str| {
        let errors = disk.project.templates(&config(extra)).unwrap_err();
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n\n")
    };
    let disk = Disk::new()
        .with("prompts/a.md", "a")
        .with("prompts/bb.md", "b")
        .with("prompts/system.md", b"\xff");
    insta::assert_snapshot!(errors(&disk, ""), @r"
    the template `prompts/b.md` does not exist
      --> pipeline.toml:8

    hint: make it, or name another
    ");
    insta::assert_snapshot!(errors(&disk.with("prompts/b.md", ""), "prompts = { system = \"prompts/system.md\", context = \"prompts\" }"), @r"
    the template `prompts/system.md` is not UTF-8
      --> pipeline.toml:1

    hint: save it as UTF-8

    the template `prompts` is not a file
      --> pipeline.toml:1
    ");
    insta::assert_snapshot!(errors(&Disk::new().with("prompts/a.md", "").with("prompts/b.md", "").with("prompts/system.md", ""), "prompts.system = \"prompts/systm.md\""), @r"
    the template `prompts/systm.md` does not exist
      --> pipeline.toml:1

    hint: did you mean `prompts/system.md`?
    ");
    insta::assert_snapshot!(errors(&Disk::new(), ""), @r"
    the template `prompts/a.md` does not exist
      --> pipeline.toml:4

    hint: make it, or name another

    the template `prompts/b.md` does not exist
      --> pipeline.toml:8

    hint: make it, or name another
    ");
}

/// Who writes `..` into the pipeline means it.
#[test]
fn templates_beside_the_project() {
    let disk = Disk::new().with("prompts/a.md", "a").with("prompts/b.md", "b");
    fs::write(
        disk.beside.join("s.md"),
        "{% include '../beside/t.md' %}{% include '../secret.md' %}",
    )
    .unwrap();
    fs::write(disk.beside.join("t.md"), "t").unwrap();
    fs::write(disk.beside.parent().unwrap().join("secret.md"), "no").unwrap();
    let read = disk
        .project
        .templates(&config("prompts.system = \"../beside/s.md\""))
        .unwrap();
    let names: Vec<&str> = read.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["../beside/s.md", "../beside/t.md", "prompts/a.md", "prompts/b.md"]
    );
}

#[test]
fn personas_are_folders_and_sorted() {
    let disk = Disk::new()
        .with("personas/zoe/profile.md", "")
        .with("personas/ann/profile.md", "")
        .with("personas/.git/x", "")
        .with("personas/readme.md", "")
        .with("personas/é b/x.md", "");
    fs::create_dir(disk.root.join("personas/empty")).unwrap();
    let names: Vec<String> = disk
        .listed()
        .into_iter()
        .map(|(name, refused)| format!("{name}{refused:?}"))
        .collect();
    assert_eq!(names, ["annNone", "emptyNone", "zoeNone", "é bNone"]);
}

#[test]
fn personas_that_are_not_there() {
    let disk = Disk::new().with("file", "");
    insta::assert_snapshot!(disk.project.personas(&config("")).unwrap_err(), @r"
    no personas: `personas` does not exist
      --> pipeline.toml

    hint: make it, with one folder for each persona, or name another as `personas` in `[pipeline]`
    ");
    let error = disk
        .project
        .personas(&config("pipeline.personas = \"file\""))
        .unwrap_err();
    assert!(error.message.starts_with("no personas: `file` "), "{error}");
    assert!(
        disk.persona("ann").contains("`personas` does not exist")
            || disk.persona("ann").contains("`personas/ann` does not exist")
    );
}

#[test]
fn names_that_a_persona_cannot_have() {
    for (name, wrong) in [
        ("", true),
        ("..", true),
        (".hidden", true),
        ("a/b", true),
        ("a\\b", true),
        ("a:b", true),
        ("what?", true),
        ("a\u{7}", true),
        (" a", true),
        ("a.", true),
        ("CON", true),
        ("nul.x", true),
        ("com1", true),
        ("com", false),
        ("comet", false),
        ("ann", false),
        ("Ann & Bob (2)", false),
        ("é-1.2", false),
        (&"x".repeat(201), true),
    ] {
        assert_eq!(crate::persona::wrong_name(name).is_some(), wrong, "{name:?}");
        let disk = Disk::new().with("personas/ann/profile.md", "");
        assert_eq!(
            disk.persona(name).contains("cannot be the name of a persona"),
            wrong,
            "{name:?}"
        );
    }
}

#[test]
fn the_files_of_a_persona() {
    let disk = Disk::new()
        .with("personas/ann/profile.md", "Ann\r\n")
        .with("personas/ann/facts.toml", "age = 81")
        .with("personas/ann/.draft.md", b"\xff")
        .with("personas/ann/photo.jpg", b"\xff")
        .with("personas/ann/old/profile.md", "no")
        .with("personas/ann/folder.md/x", "no")
        .with("personas/empty.d/x.png", "");
    assert_eq!(
        disk.persona("ann"),
        "{'id': 'ann', 'facts': {'age': 81}, 'profile': 'Ann'}"
    );
    assert_eq!(disk.persona("empty.d"), "{'id': 'empty.d'}");
    insta::assert_snapshot!(disk.persona("bob"), @r#"
    persona `bob`: `personas/bob` does not exist
      --> personas/bob
    "#);
    let disk = disk.with("personas/ann/facts.json", "{}");
    insta::assert_snapshot!(disk.persona("ann"), @r#"
    persona `ann`: `facts.json` has the same stem: both would be `persona.facts`
      --> personas/ann/facts.toml

    hint: rename one of them
    "#);
}

#[test]
fn a_persona_that_is_too_large() {
    let half = vec![b'a'; crate::persona::LARGEST / 2 + 1];
    let disk = Disk::new()
        .with("personas/ann/a.md", &half)
        .with("personas/ann/b.md", &half);
    insta::assert_snapshot!(disk.persona("ann"), @r#"
    persona `ann`: the files of one persona may have 64 MB together
      --> personas/ann/b.md
    "#);
}

#[test]
fn personas_beside_the_project() {
    let disk = Disk::new();
    fs::create_dir(disk.beside.join("ann")).unwrap();
    fs::write(disk.beside.join("ann/profile.md"), "Ann").unwrap();
    for path in ["../beside", "../beside/", disk.beside.to_str().unwrap()] {
        let config = config(&format!("pipeline.personas = {path:?}"));
        assert_eq!(disk.project.personas(&config).unwrap().len(), 1, "{path}");
        let (persona, _) = disk.project.persona(&config, &PersonaId::from("ann")).unwrap();
        assert_eq!(persona.value().to_string(), "{'id': 'ann', 'profile': 'Ann'}");
    }
}

/// The project that ships can be read, all of it.
#[test]
fn the_shipped_project() {
    let project = Project::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let config = config::load(&project.text("pipeline.toml").unwrap(), "pipeline.toml").unwrap();
    let templates: BTreeMap<String, String> = project.templates(&config).unwrap();
    let prompts = crate::prompt::Prompts::compile(&config, &templates).unwrap();
    let personas = project.personas(&config).unwrap();
    assert_eq!(personas.len(), 8);
    for listed in personas {
        assert_eq!(listed.refused, None);
        let (persona, _) = project.persona(&config, &listed.id).unwrap();
        for node in (0..config.nodes.len()).filter(|node| config.nodes[*node].needs.is_empty()) {
            let request = prompts.request(node, &persona, &[]).unwrap();
            assert!(request.estimated_input_tokens() > 800, "{}", listed.id);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symlinks_out_of_the_project_are_refused() {
        let disk = Disk::new()
            .with("personas/ann/profile.md", "Ann")
            .with("prompts/a.md", "")
            .with("prompts/b.md", "");
        fs::write(disk.beside.join("secret.md"), "secret").unwrap();
        symlink(
            disk.beside.join("secret.md"),
            disk.root.join("personas/ann/link.md"),
        )
        .unwrap();
        symlink(&disk.beside, disk.root.join("personas/bob")).unwrap();
        symlink(disk.beside.join("secret.md"), disk.root.join("prompts/system.md")).unwrap();
        symlink(disk.beside.join("secret.md"), disk.root.join("out.md")).unwrap();
        insta::assert_snapshot!(disk.persona("ann"), @r#"
        persona `ann`: `personas/ann/link.md` leads out of the project
          --> personas/ann/link.md

        hint: a symlink is followed only within the project: put the file itself there
        "#);
        insta::assert_snapshot!(disk.persona("bob"), @r#"
        persona `bob`: `personas/bob` leads out of the project
          --> personas/bob

        hint: a symlink is followed only within the project: put the file itself there
        "#);
        insta::assert_snapshot!(disk.project.templates(&config("prompts.system = \"prompts/system.md\"")).unwrap_err()[0], @r"
        the template `prompts/system.md` leads out of the project
          --> pipeline.toml:1

        hint: a symlink is followed only within the project: put the file itself there
        ");
        insta::assert_snapshot!(disk.project.read("out.md").unwrap_err(), @r#"
        `out.md` leads out of the project
          --> out.md

        hint: a symlink is followed only within the project: put the file itself there
        "#);
        assert_eq!(disk.listed().len(), 2);
    }

    #[test]
    fn a_folder_of_personas_that_leads_out_must_be_named() {
        let disk = Disk::new();
        symlink(&disk.beside, disk.root.join("personas")).unwrap();
        insta::assert_snapshot!(disk.project.personas(&config("")).unwrap_err(), @r"
        no personas: `personas` leads out of the project
          --> pipeline.toml

        hint: write the path that it leads to as `personas` in `[pipeline]`
        ");
    }

    #[test]
    fn symlinks_in_circles_are_personas_that_fail() {
        let disk = Disk::new().with("personas/ann/profile.md", "Ann");
        symlink("bob", disk.root.join("personas/bob")).unwrap();
        symlink("ann/profile.md", disk.root.join("personas/file")).unwrap();
        let listed: Vec<String> = disk.listed().into_iter().map(|(id, _)| id).collect();
        assert_eq!(listed, ["ann", "bob"]);
        let circle = disk.persona("bob");
        assert!(circle.contains("cannot read `personas/bob`"), "{circle}");
    }

    #[test]
    fn symlinks_within_the_project_are_followed() {
        let disk = Disk::new()
            .with("shared/ann/profile.md", "Ann")
            .with("personas/bob/x.txt", "x");
        symlink("../shared/ann", disk.root.join("personas/ann")).unwrap();
        symlink(
            "../../shared/ann/profile.md",
            disk.root.join("personas/bob/profile.md"),
        )
        .unwrap();
        symlink("nowhere", disk.root.join("personas/dangling")).unwrap();
        assert_eq!(disk.listed().len(), 2);
        assert_eq!(disk.persona("ann"), "{'id': 'ann', 'profile': 'Ann'}");
        assert_eq!(disk.persona("bob"), "{'id': 'bob', 'profile': 'Ann', 'x': 'x'}");
        symlink("nowhere", disk.root.join("personas/bob/gone.md")).unwrap();
        insta::assert_snapshot!(disk.persona("bob"), @r#"
        persona `bob`: `personas/bob/gone.md` does not exist
          --> personas/bob/gone.md
        "#);
    }

    #[test]
    fn names_that_are_not_utf8() {
        let disk = Disk::new().with("personas/ann/profile.md", "Ann");
        for bytes in [b"b\xffb", b"b\xfeb"] {
            // Some file systems take only UTF-8: there is nothing to refuse then.
            if fs::create_dir(disk.root.join("personas").join(OsStr::from_bytes(bytes))).is_err() {
                return;
            }
        }
        let listed = disk.listed();
        let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ann", "b\\xfeb", "b\\xffb"]);
        assert_eq!(
            listed[1].1.as_deref(),
            Some("this cannot be the name of a persona: it is not UTF-8")
        );
        fs::write(
            disk.root
                .join("personas/ann")
                .join(OsStr::from_bytes(b"f\xff.md")),
            "x",
        )
        .unwrap();
        insta::assert_snapshot!(disk.persona("ann"), @r#"
        persona `ann`: the file's name is not UTF-8
          --> personas/ann/f\xff.md
        "#);
    }

    /// Opening a pipe waits for a writer: a night would stand still.
    #[test]
    fn a_pipe_is_no_file() {
        let disk = Disk::new().with("personas/ann/profile.md", "Ann");
        nix::unistd::mkfifo(
            &disk.root.join("personas/ann/pipe.md"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        assert_eq!(disk.persona("ann"), "{'id': 'ann', 'profile': 'Ann'}");
    }
}
