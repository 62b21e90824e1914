//! What counts as an edit.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::files::Project;
use crate::files::watch::{Contents, Known};

fn names() -> Vec<String> {
    ["a.md", "b.md", "folder"].map(str::to_owned).into()
}

#[test]
fn only_another_content_is_an_edit_however_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a.md"), "one").unwrap();
    fs::create_dir(path("folder")).unwrap();
    let project = Project::open(folder.path()).unwrap();
    let mut known = Known::default();
    let mut look = || project.contents(names(), &mut known);
    let before = look();
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        ["a.md"],
        "what is there, and a file"
    );
    assert_eq!(look(), before);
    // Touched, and saved again as it was.
    let file = fs::File::options().write(true).open(path("a.md")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    assert_eq!(look(), before);
    // Renamed into place, of the same length and with the time of the old one.
    let modified = fs::metadata(path("a.md")).unwrap().modified().unwrap();
    fs::write(path("a.md~"), "two").unwrap();
    let file = fs::File::options().write(true).open(path("a.md~")).unwrap();
    file.set_modified(modified).unwrap();
    fs::rename(path("a.md~"), path("a.md")).unwrap();
    let renamed = look();
    assert_ne!(renamed, before);
    fs::write(path("b.md"), "").unwrap();
    assert_eq!(look().len(), 2);
    fs::remove_file(path("a.md")).unwrap();
    assert_eq!(look().keys().collect::<Vec<_>>(), ["b.md"]);
    fs::remove_file(path("b.md")).unwrap();
    fs::write(path("a.md"), "one").unwrap();
    assert_eq!(look(), before, "as it was at first");
}

#[test]
fn names_in_a_folder_are_those_that_a_person_sees() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("prompts")).unwrap();
    for name in ["prompts/a.md", "prompts/.a.md.swp", "pipeline.toml"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let project = Project::open(folder.path()).unwrap();
    assert_eq!(project.names_in("prompts"), ["prompts/a.md"]);
    let mut top = project.names_in("");
    top.sort();
    assert_eq!(top, ["pipeline.toml", "prompts"]);
    assert_eq!(project.names_in("nowhere"), Vec::<String>::new());
    assert_eq!(
        project.contents(Vec::new(), &mut Known::default()),
        Contents::new()
    );
}
