//! Log files in a tar archive, read as a stream.

#![allow(
    clippy::disallowed_types,
    reason = "an archive is inflated as a stream: each file in it has its cap, and what is between them, too"
)]

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry};

/// Most bytes between the files of an archive. `tar` keeps long names in memory.
const HEAD_BYTES: u64 = 1 << 20;

/// A part of an archive.
pub(crate) enum Part<'a, 'b> {
    /// A file and its content.
    File(PathBuf, &'a mut Entry<'b, Metered>),
    /// A link, or something else that is no plain file and no folder.
    Other(PathBuf),
}

/// Calls `read` with each part of an archive.
///
/// # Errors
///
/// The archive is damaged or can't be read. The parts before have been read.
pub(crate) fn each_part(path: &Path, mut read: impl FnMut(Part<'_, '_>)) -> io::Result<()> {
    let file = BufReader::new(File::open(path)?);
    let is_gzip = path.extension().is_some_and(|ending| {
        ending.eq_ignore_ascii_case("gz") || ending.eq_ignore_ascii_case("tgz")
    });
    let stream = if is_gzip {
        Stream::Compressed(Box::new(MultiGzDecoder::new(file)))
    } else {
        Stream::Plain(file)
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

/// The bytes of an archive.
enum Stream {
    Plain(BufReader<File>),
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Compressed(file) => file.read(buffer),
        }
    }
}

/// A stream that gives no more than is allowed.
pub(crate) struct Metered {
    stream: Stream,
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
