//! Inflates an object's body as it arrives, under a cap: every gzip member, or plain JSON as it is.

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use super::scan::ScanError;

/// The first byte of every gzip member; no JSON text starts with it.
const GZIP_MAGIC: u8 = 0x1f;
/// The largest window that gzip may use, as a power of two.
const WINDOW_BITS: u8 = 15;

/// A body on its way through gunzip. Bytes that precede an error are handed out before the error.
pub(super) struct Inflate {
    form: Form,
    expanded_bytes: u64,
    cap: u64,
    failed: Option<ScanError>,
}

enum Form {
    /// Nothing seen yet.
    Start,
    /// Not compressed.
    Plain,
    /// Inside a gzip member.
    Member(Decompress),
    /// Behind a whole gzip member.
    BetweenMembers,
}

impl Inflate {
    pub(super) fn new(cap: u64) -> Self {
        Self {
            form: Form::Start,
            expanded_bytes: 0,
            cap,
            failed: None,
        }
    }

    /// Bytes handed out so far.
    pub(super) fn expanded_bytes(&self) -> u64 {
        self.expanded_bytes
    }

    /// Fills `out` from `input`, and says how many bytes it wrote; zero asks for more input.
    pub(super) fn fill(&mut self, input: &mut Bytes, out: &mut [u8]) -> Result<usize, ScanError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // Reads one byte more than the cap, to notice a larger file.
        let allowed = self.cap.saturating_sub(self.expanded_bytes);
        let room = usize::try_from(allowed.saturating_add(1)).unwrap_or(usize::MAX);
        let room = room.min(out.len());
        let mut written = 0;
        while written < room && self.failed.is_none() {
            let before = (written, input.len());
            written += self.step(input, &mut out[written..room]);
            if (written, input.len()) == before {
                break;
            }
        }
        if written as u64 > allowed {
            written -= 1;
            self.failed = Some(ScanError::OverCap { cap: self.cap });
        }
        self.expanded_bytes += written as u64;
        match self.failed.take() {
            Some(error) if written == 0 => Err(error),
            failed => {
                self.failed = failed;
                Ok(written)
            }
        }
    }

    /// Checks that the body may end here.
    pub(super) fn finish(&self) -> Result<(), ScanError> {
        match self.form {
            Form::Start => Err(ScanError::Empty),
            Form::Plain | Form::BetweenMembers => Ok(()),
            Form::Member(_) => Err(ScanError::TruncatedGzip),
        }
    }

    fn step(&mut self, input: &mut Bytes, out: &mut [u8]) -> usize {
        match &mut self.form {
            Form::Start | Form::BetweenMembers => {
                match (input.first(), &self.form) {
                    (None, _) => {}
                    (Some(&GZIP_MAGIC), _) => {
                        self.form = Form::Member(Decompress::new_gzip(WINDOW_BITS));
                        return self.step(input, out);
                    }
                    (Some(_), Form::Start) => {
                        self.form = Form::Plain;
                        return self.step(input, out);
                    }
                    (Some(_), _) => self.failed = Some(ScanError::TrailingBytes),
                }
                0
            }
            Form::Plain => {
                let length = input.len().min(out.len());
                out[..length].copy_from_slice(&input[..length]);
                input.advance(length);
                length
            }
            Form::Member(member) => {
                let (read, written) = (member.total_in(), member.total_out());
                let status = member.decompress(input, out, FlushDecompress::None);
                input.advance(usize::try_from(member.total_in() - read).unwrap_or(input.len()));
                let written = usize::try_from(member.total_out() - written).unwrap_or(out.len());
                match status {
                    Ok(Status::StreamEnd) => self.form = Form::BetweenMembers,
                    Ok(Status::Ok | Status::BufError) => {}
                    Err(_) => self.failed = Some(ScanError::CorruptGzip),
                }
                written
            }
        }
    }
}
