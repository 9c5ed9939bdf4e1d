//! The repository tests its own rules: those of CONTRIBUTING.md that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

/// No file of `src/` is longer.
const LONGEST: usize = 600;

/// What each folder of `src/` may name of the crate, beside itself.
const MAY_NAME: [(&str, &[&str]); 16] = [
    ("sys", &[]),
    ("wire", &["sys"]),
    ("task", &["sys", "wire"]),
    ("process", &["sys", "wire"]),
    ("connection", &["sys", "wire", "task", "process"]),
    ("sync", &["sys", "task", "process"]),
    ("shared", &["sys", "task", "sync"]),
    ("queue", &["sys", "task", "process", "sync"]),
    ("worker", &["sys", "wire", "task", "process"]),
    ("supervisor", &["sys", "wire", "task", "process"]),
    (
        "pool",
        &["sys", "wire", "task", "process", "worker", "supervisor"],
    ),
    (
        "processes",
        &[
            "sys",
            "wire",
            "task",
            "process",
            "worker",
            "supervisor",
            "connection",
        ],
    ),
    // It has threads where the pool has workers, and shares handles, replies and errors with it.
    ("thread_pool", &["sys", "wire", "task", "process", "pool"]),
    ("executor", &["task", "process", "pool", "thread_pool"]),
    // An adapter.
    ("tower.rs", &["pool"]),
    // Reaches into what reads bytes, and is in no program.
    (
        "fuzzing.rs",
        &["sys", "wire", "task", "process", "connection"],
    ),
];

/// A file of the repository, its path relative to the root.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn folder(&self) -> &str {
        let mut parts = self.path.iter().skip(1);
        parts.next().and_then(|part| part.to_str()).unwrap()
    }

    /// The lines that are not comments, numbered from one.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().zip(1..);
        lines
            .map(|(line, number)| (number, line.split("//").next().unwrap_or_default()))
            .filter(|(_, line)| !line.trim().is_empty())
    }
}

#[test]
fn every_source_file_says_what_lives_in_it() {
    none(sources().iter().filter_map(|file| {
        let opens = file.text.starts_with("//! ");
        (!opens).then(|| format!("{}: does not open with `//! `", file.path.display()))
    }));
}

#[test]
fn no_source_file_is_two_ideas_long() {
    none(sources().iter().filter_map(|file| {
        let lines = file.text.lines().count();
        let path = file.path.display();
        (lines > LONGEST).then(|| format!("{path}: {lines} lines, more than {LONGEST}"))
    }));
}

#[test]
fn unsafe_code_has_three_homes() {
    let files = ["src/task/entry.rs", "src/shared/guard.rs"].map(Path::new);
    let homes = |path: &Path| path.starts_with("src/sys") || files.contains(&path);
    let tests = |path: &Path| path.starts_with("src/task/entry");
    none(
        sources()
            .iter()
            .filter(|file| !homes(&file.path) && !tests(&file.path))
            .flat_map(|file| lines_with(file, |line| words(line).any(|word| word == "unsafe"))),
    );
}

#[test]
fn lower_layers_do_not_name_higher_ones() {
    let folders: Vec<_> = MAY_NAME.iter().map(|(folder, _)| *folder).collect();
    let sources = sources();
    for file in &sources {
        // The pages for readers are above all layers.
        let page = ["src/lib.rs", "src/guide.rs"].map(Path::new);
        let known = page.contains(&&*file.path) || folders.contains(&file.folder());
        assert!(known, "{}: in no layer", file.path.display());
    }
    // Unit tests in folders of their own may use the whole crate.
    let shipped = sources
        .iter()
        .filter(|file| !file.path.iter().any(|part| part == "tests"));
    none(shipped.flat_map(|file| {
        let allowed = MAY_NAME.iter().find(|(name, _)| *name == file.folder());
        let (own, allowed) = allowed.copied().unwrap_or(("", &folders));
        lines_with(file, move |line| {
            named(line).any(|name| {
                // Macros and re-exports live at the root and belong to no layer.
                MAY_NAME.iter().any(|(folder, _)| *folder == name)
                    && name != own
                    && !allowed.contains(&name)
            })
        })
    }));
}

#[test]
fn every_chapter_of_the_guide_is_on_the_title_page() {
    let (guide, title) = (read("src/guide.rs"), read("src/lib.rs"));
    let chapters = guide.lines().filter_map(|line| {
        let name = line.strip_prefix("pub mod ")?.strip_suffix(" {}")?;
        (!title.contains(&format!("(guide::{name})"))).then(|| name.to_owned())
    });
    none(chapters);
}

#[test]
fn nothing_is_left_to_be_done() {
    let unfinished = ["todo!", "unimplemented!", "FIXME", "dbg!"];
    none(sources().iter().flat_map(|file| {
        lines_with(file, |line| {
            unfinished.iter().any(|word| line.contains(word))
        })
    }));
}

#[test]
fn every_dependency_is_used_and_has_its_reason() {
    let manifest = read("Cargo.toml");
    let table = manifest.split("[dependencies]").nth(1).unwrap();
    let table = table
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let names = table.filter_map(|line| line.split(" =").next().filter(|name| !name.is_empty()));
    let reasons = read("ARCHITECTURE.md");
    let sources = sources();
    none(names.filter_map(|name| {
        let path = format!("{}::", name.replace('-', "_"));
        let used = sources.iter().any(|file| file.text.contains(&path));
        let explained = reasons
            .lines()
            .any(|line| line.starts_with('|') && line.contains(name));
        (!used || !explained).then(|| format!("{name}: used {used}, explained {explained}"))
    }));
}

#[test]
fn the_changelog_knows_this_version() {
    let version = format!("[{}]", env!("CARGO_PKG_VERSION"));
    let changelog = read("CHANGELOG.md");
    let headings: Vec<_> = changelog
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    let known = |line: &&str| line.contains("[Unreleased]") || line.contains(&version);
    assert!(headings.first().is_some_and(known), "{headings:?}");
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = read("README.md");
    let mut blocks = readme.split("```");
    let first: Vec<_> = blocks.nth(1).unwrap().lines().skip(1).collect();
    assert_eq!(
        first,
        [
            "cargo run --release --example quickstart",
            "cargo test --all-features"
        ]
    );
    let ci = read(".ci/run");
    for command in first {
        assert!(ci.contains(command), "{command} is not tried by .ci/run");
    }
    assert!(root().join("examples/quickstart.rs").exists());
}

#[test]
fn the_pages_link_to_what_exists() {
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "PERFORMANCE.md",
    ] {
        let text = read(page);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        none(
            links
                .filter(|link| !link.contains("://"))
                .filter_map(|link| {
                    let file = link.split('#').next().unwrap_or_default();
                    let missing = !file.is_empty() && !root().join(file).exists();
                    missing.then(|| format!("{page}: no {link}"))
                }),
        );
    }
}

#[test]
fn the_architecture_names_files_that_exist() {
    let text = read("ARCHITECTURE.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let paths =
        quoted.filter(|path| path.starts_with("src/") && !path.contains(char::is_whitespace));
    let missing = paths.filter(|path| !root().join(path).exists());
    none(missing.map(|path| format!("no {path}")));
}

#[test]
fn the_script_that_checks_changes_can_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let script = fs::metadata(root().join(".ci/run")).unwrap();
    assert_eq!(script.permissions().mode() & 0o111, 0o111);
}

/// Fails with all that was found.
fn none(found: impl Iterator<Item = String>) {
    let found: Vec<_> = found.collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

fn lines_with<'a>(
    file: &'a File,
    wrong: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = String> + 'a {
    let wrong = file.code().filter(move |(_, line)| wrong(line));
    wrong.map(|(number, line)| format!("{}:{number}: {}", file.path.display(), line.trim()))
}

/// What a line names directly under the crate's root.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let paths = line.split("crate::").skip(1);
    paths.filter_map(|path| words(path).next())
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

fn sources() -> Vec<File> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 10, "the sources are not where they should be");
    found
}

fn collect(folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_owned();
            found.push(File { path, text });
        }
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
