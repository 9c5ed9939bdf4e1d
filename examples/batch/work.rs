//! What the workers do: everything here but [`tidy_up`] runs in a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use procpool::RemoteError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;
use crate::options::Options;

/// One file's work. Names are `OsString`s: a `PathBuf` travels only if it is UTF-8.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    path: OsString,
    /// Where the compressed copy goes.
    copy: Option<OsString>,
    poisoned: bool,
}

/// What a file has given.
#[derive(Serialize, Deserialize)]
pub(crate) struct Yield {
    pub(crate) sum: [u8; 32],
    /// How many bytes were read …
    pub(crate) read: u64,
    /// … and how many the copy has, if one was made.
    pub(crate) written: Option<u64>,
}

impl Order {
    pub(crate) fn new(file: &files::File, options: &Options) -> Self {
        let copy = options.compress.as_ref().map(|folder| {
            let mut copy = folder.join(&file.place).into_os_string();
            copy.push(".gz");
            copy
        });
        Self {
            path: file.path.clone().into_os_string(),
            copy,
            poisoned: options.poison.is_some()
                && options.poison.as_deref() == file.path.file_name(),
        }
    }

    /// Where the copy is written. It gets its own name when it is whole.
    fn draft(&self) -> Option<PathBuf> {
        let mut draft = self.copy.clone()?;
        draft.push(".part");
        Some(draft.into())
    }
}

/// The task. Any error becomes a [`RemoteError`] by `?` and travels back as a value.
pub(crate) fn work_on(order: Order) -> Result<Yield, RemoteError> {
    if order.poisoned {
        std::process::abort();
    }
    let source = File::open(&order.path)?;
    let (Some(copy), Some(draft)) = (&order.copy, order.draft()) else {
        let (sum, read) = digest(source, &mut io::sink())?;
        let written = None;
        return Ok(Yield { sum, read, written });
    };
    if let Some(folder) = Path::new(copy).parent() {
        fs::create_dir_all(folder)?;
    }
    let mut packer = GzEncoder::new(File::create(&draft)?, Compression::default());
    let (sum, read) = digest(source, &mut packer)?;
    let written = Some(packer.finish()?.metadata()?.len());
    fs::rename(draft, copy)?;
    Ok(Yield { sum, read, written })
}

/// Reads to the end, once: the sum of the bytes, and their number. `also` is given them, too.
fn digest(mut source: File, also: &mut impl Write) -> io::Result<([u8; 32], u64)> {
    let (mut sum, mut read) = (Sha256::new(), 0);
    let mut bytes = vec![0; 128 * 1024];
    loop {
        match source.read(&mut bytes) {
            Ok(0) => return Ok((sum.finalize().into(), read)),
            Ok(count) => {
                sum.update(&bytes[..count]);
                also.write_all(&bytes[..count])?;
                read += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes what a worker that failed or was killed has left half written.
pub(crate) fn tidy_up(order: &Order) {
    if let Some(draft) = order.draft() {
        // Most have left nothing.
        let _ = fs::remove_file(draft);
    }
}
