//! Which files there are.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// A file that was there when the folder was read.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// Its path below the folder.
    pub(crate) place: PathBuf,
    /// What it had then, in bytes.
    pub(crate) size: u64,
}

/// What there is below a folder.
#[derive(Default)]
pub(crate) struct Found {
    /// The regular files, by name.
    pub(crate) files: Vec<File>,
    /// What could not be looked at, and why.
    pub(crate) unseen: Vec<(PathBuf, String)>,
    /// How many entries are neither files nor folders. Links are not followed.
    pub(crate) skipped: usize,
}

/// Looks at everything below a folder.
///
/// # Errors
///
/// When the folder itself cannot be read; one that lies in it is among the unseen instead.
pub(crate) fn below(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if next == folder => {
                let text = format!("{}: {error}", folder.display());
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => {
                found.unseen.push((next, error.to_string()));
                continue;
            }
        };
        for entry in entries {
            let seen = entry.and_then(|entry| look_at(&entry, folder, &mut found, &mut folders));
            if let Err(error) = seen {
                found.unseen.push((next.clone(), error.to_string()));
            }
        }
    }
    found.files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn look_at(
    entry: &DirEntry,
    folder: &Path,
    found: &mut Found,
    folders: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let (kind, path) = (entry.file_type()?, entry.path());
    if kind.is_dir() {
        folders.push(path);
    } else if kind.is_file() {
        let place = path.strip_prefix(folder).expect("it lies there").to_owned();
        let size = entry.metadata()?.len();
        found.files.push(File { path, place, size });
    } else {
        found.skipped += 1;
    }
    Ok(())
}
