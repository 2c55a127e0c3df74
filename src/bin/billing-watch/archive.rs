//! Log files in a tar archive, read as a stream.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

#[allow(
    clippy::disallowed_types,
    reason = "an archive is read as a stream; each file in it has its cap"
)]
use flate2::read::MultiGzDecoder;
use tar::Archive;

/// Calls `read` with the name and the content of each file in an archive.
///
/// # Errors
///
/// The archive is damaged or can't be read. The files before have been read.
pub(crate) fn each_file(
    path: &Path,
    mut read: impl FnMut(PathBuf, &mut dyn Read),
) -> io::Result<()> {
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
    for entry in Archive::new(stream).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            // The archive's own name in front, so that a message says where the file is.
            let name = path.join(entry.path()?);
            read(name, &mut entry);
        }
    }
    Ok(())
}
