//! Log files in a tar archive, read as a stream.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

#[allow(
    clippy::disallowed_types,
    reason = "an archive is read as a stream: each file in it has its cap, and what is between them, too"
)]
use flate2::read::MultiGzDecoder;
use tar::Archive;

/// Most bytes between the files of an archive. `tar` keeps long names in memory.
const HEAD_BYTES: u64 = 1 << 20;

/// A part of an archive.
pub(crate) enum Part<'a> {
    /// A file and its content.
    File(PathBuf, &'a mut dyn Read),
    /// A link, or something else that is no plain file and no folder.
    Other(PathBuf),
}

/// Calls `read` with each part of an archive.
///
/// # Errors
///
/// The archive is damaged or can't be read. The parts before have been read.
pub(crate) fn each_part(path: &Path, mut read: impl FnMut(Part<'_>)) -> io::Result<()> {
    let file = BufReader::new(File::open(path)?);
    let is_gzip = path.extension().is_some_and(|ending| {
        ending.eq_ignore_ascii_case("gz") || ending.eq_ignore_ascii_case("tgz")
    });
    #[allow(clippy::disallowed_types, reason = "see above")]
    let stream: Box<dyn Read> = if is_gzip {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let allowed = Rc::new(Cell::new(HEAD_BYTES));
    let mut archive = Archive::new(Metered {
        stream,
        allowed: Rc::clone(&allowed),
    });
    let mut parts = archive.entries()?;
    loop {
        allowed.set(HEAD_BYTES);
        let Some(entry) = parts.next() else {
            return Ok(());
        };
        let mut entry = entry?;
        allowed.set(u64::MAX);
        // The archive's own name in front, so that a message says where the file is.
        let name = path.join(entry.path()?);
        let kind = entry.header().entry_type();
        if kind.is_file() {
            read(Part::File(name, &mut entry));
        } else if !kind.is_dir() {
            read(Part::Other(name));
        }
        // What is left of it belongs to no head.
        io::copy(&mut entry, &mut io::sink())?;
    }
}

/// A stream that gives no more than is allowed.
struct Metered {
    stream: Box<dyn Read>,
    allowed: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.allowed.get();
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "more than {HEAD_BYTES} bytes between two files, so no archive of log files"
            )));
        }
        let most = buffer
            .len()
            .min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let read = self.stream.read(&mut buffer[..most])?;
        self.allowed.set(allowed - read as u64);
        Ok(read)
    }
}
