//! The files that the user named, one after the other, in the order of their names.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

/// Something to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Input {
    /// A file. `named` says that the user named it, so that it is read whatever its name is.
    File { path: PathBuf, named: bool },
    /// An archive of files.
    Archive(PathBuf),
    /// Standard input.
    Stdin,
    /// A file or folder that can't be read, and why.
    Broken(PathBuf, String),
}

impl Input {
    /// A text that orders the inputs of one folder as they come, and that no two of them share: each byte
    /// of the path as one character, for names need not be UTF-8.
    pub(crate) fn place_in_order(&self) -> String {
        match self {
            Self::Stdin => "-".to_owned(),
            Self::File { path, .. } | Self::Archive(path) | Self::Broken(path, _) => path
                .as_os_str()
                .as_encoded_bytes()
                .iter()
                .map(|byte| char::from(*byte))
                .collect(),
        }
    }
}

/// Walks files and folders. Memory grows with the entries of one folder at each depth, not with all.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// What is left, the next one first, and whether the user named it.
    rest: VecDeque<(PathBuf, bool)>,
}

impl Inputs {
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
        Self {
            rest: paths.iter().map(|path| (path.clone(), true)).collect(),
        }
    }

    /// Puts the entries of a folder in front of the rest.
    fn open_folder(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            entries.push(entry?.path());
        }
        entries.sort();
        for entry in entries.into_iter().rev() {
            self.rest.push_front((entry, false));
        }
        Ok(())
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            let (path, named) = self.rest.pop_front()?;
            if named && path.as_os_str() == "-" {
                return Some(Input::Stdin);
            }
            // A link to a folder is followed only if the user named it: links may form a circle.
            let is_folder = if named {
                path.is_dir()
            } else {
                fs::symlink_metadata(&path).is_ok_and(|entry| entry.is_dir())
            };
            if is_folder {
                if let Err(error) = self.open_folder(&path) {
                    return Some(Input::Broken(path, error.to_string()));
                }
                continue;
            }
            if !named && path.is_dir() {
                continue;
            }
            return Some(if is_archive(&path) {
                Input::Archive(path)
            } else {
                Input::File { path, named }
            });
        }
    }
}

/// Whether a file is a tar archive, by its name.
fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    [".tar", ".tar.gz", ".tgz"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
