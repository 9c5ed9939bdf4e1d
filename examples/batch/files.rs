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

/// What could not be looked at, and why.
pub(crate) type Unseen = (PathBuf, String);

/// All regular files below a folder, by name. Links are not followed.
///
/// # Errors
///
/// When the folder itself cannot be read; one that lies in it is among the unseen instead.
pub(crate) fn below(folder: &Path) -> io::Result<(Vec<File>, Vec<Unseen>)> {
    let (mut files, mut unseen) = (Vec::new(), Vec::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if next == folder => {
                let text = format!("{}: {error}", folder.display());
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => {
                unseen.push((next, error.to_string()));
                continue;
            }
        };
        for entry in entries {
            match entry.and_then(|entry| look_at(&entry, folder, &mut folders)) {
                Ok(file) => files.extend(file),
                Err(error) => unseen.push((next.clone(), error.to_string())),
            }
        }
    }
    files.sort_by(|one: &File, other| one.path.cmp(&other.path));
    Ok((files, unseen))
}

fn look_at(
    entry: &DirEntry,
    folder: &Path,
    folders: &mut Vec<PathBuf>,
) -> io::Result<Option<File>> {
    let (kind, path) = (entry.file_type()?, entry.path());
    if kind.is_dir() {
        folders.push(path);
        return Ok(None);
    }
    if !kind.is_file() {
        return Ok(None);
    }
    let place = path.strip_prefix(folder).expect("it lies there").to_owned();
    let size = entry.metadata()?.len();
    Ok(Some(File { path, place, size }))
}
