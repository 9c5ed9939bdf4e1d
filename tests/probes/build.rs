//! Builds the probe programs, each set of them once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Returns the path of a program, or of a library, as `cargo build` makes it.
pub(crate) fn dev(program: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let build = || build(&["--workspace", "--exclude", "explicit"], "debug");
    DIR.get_or_init(build).join(program)
}

/// Returns the path of a program without the start-up constructor.
pub(crate) fn explicit(program: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    // Built by themselves, since cargo unites the features of what is built together.
    let build = || build(&["-p", "explicit"], "debug");
    DIR.get_or_init(build).join(program)
}

/// Returns the path of the plain program, built under another profile than `dev`.
pub(crate) fn plain(profile: &str) -> PathBuf {
    let arguments = ["--profile", profile, "-p", "programs", "--bin", "plain"];
    build(&arguments, profile).join("plain")
}

/// Returns the path of a program that uses two versions of the crate.
///
/// The other version has the same source; its manifest, and the program's, are written here.
pub(crate) fn two_versions() -> PathBuf {
    // Its dependencies are built by then, and their versions chosen.
    dev("plain");
    let dir = temporary().join("two_versions");
    fs::create_dir_all(dir.join("other")).expect("a directory in the target directory");
    // What stands there as it should is left alone: another run of these tests may be reading it.
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(path, text).expect("a file there");
        }
    };
    write("other/Cargo.toml", other_manifest());
    write("Cargo.toml", program_manifest());
    let lock = source().join("tests/probes/Cargo.lock");
    let copy = dir.join(format!("Cargo.lock-{}", std::process::id()));
    fs::copy(lock, &copy).expect("cargo has written it");
    fs::rename(copy, dir.join("Cargo.lock")).expect("a file there");
    build_in(&dir, &[], "debug").join("two_versions")
}

/// Our own manifest under another version, with nothing but what the library needs.
fn other_manifest() -> String {
    let this = fs::read_to_string(source().join("Cargo.toml")).expect("our own manifest");
    let needed = |table: &&str| {
        let mut names = ["[package]", "[features]", "[dependencies]"].iter();
        names.any(|name| table.starts_with(name))
    };
    let tables = format!("\n{this}").replace("\n[", "\n\0[");
    let tables: String = tables.split('\0').filter(needed).collect();
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    let other = tables.replacen(version, "version = \"99.0.0\"", 1);
    assert_ne!(tables, other, "our own version stands in our manifest");
    format!("{other}\n[lib]\npath = {:?}\n", source().join("src/lib.rs"))
}

fn program_manifest() -> String {
    let this = source();
    let main = this.join("tests/probes/two_versions/main.rs");
    format!(
        r#"
[package]
name = "two_versions"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "two_versions"
path = {main:?}

[dependencies]
procpool_this = {{ package = "procpool", path = {this:?} }}
procpool_other = {{ package = "procpool", path = "other" }}
tokio = {{ version = "1.50", features = ["macros", "rt-multi-thread"] }}

[profile.dev]
debug = false
incremental = false

[workspace]
"#
    )
}

fn source() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory for the tests' own files.
pub(crate) fn temporary() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Builds members of the probes' workspace and returns the folder of the programs.
fn build(arguments: &[&str], folder: &str) -> PathBuf {
    build_in(&source().join("tests/probes"), arguments, folder)
}

/// Builds what lies in a directory and returns the folder of the programs. Nearly always everything
/// has been downloaded before, and no network is needed.
fn build_in(dir: &Path, arguments: &[&str], folder: &str) -> PathBuf {
    let target = temporary().join("probes");
    let cargo = |more: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO"));
        command.arg("build").args(arguments).args(more);
        command.arg("--target-dir").arg(&target);
        // What is set for the tests' own build is not meant for this one.
        for variable in ["CARGO_BUILD_TARGET", "CARGO_BUILD_BUILD_DIR", "RUSTFLAGS"] {
            command.env_remove(variable);
        }
        let output = command.current_dir(dir).output();
        output.expect("cargo is there, since it built this test")
    };
    let errors = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let mut output = cargo(&["--offline"]);
    if !output.status.success() && errors(&output).contains("offline") {
        output = cargo(&[]);
    }
    let errors = errors(&output);
    assert!(output.status.success(), "in {dir:?}:\n{errors}");
    target.join(folder)
}
