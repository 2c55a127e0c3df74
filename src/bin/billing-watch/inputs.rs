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
    /// What is left, the next one first.
    rest: VecDeque<Entry>,
}

/// A path that is to be read.
#[derive(Debug)]
enum Entry {
    /// The user named it.
    Named(PathBuf),
    Folder(PathBuf),
    File(PathBuf),
}

impl Inputs {
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
        Self {
            rest: paths.iter().cloned().map(Entry::Named).collect(),
        }
    }

    /// Puts the entries of a folder in front of the rest.
    fn open_folder(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                entries.push(Entry::Folder(path));
            } else if !kind.is_symlink() || !path.is_dir() {
                entries.push(Entry::File(path));
            }
            // A link to a folder is followed only if the user named it: links may form a circle.
        }
        entries.sort_by(|a, b| a.path().cmp(b.path()));
        for entry in entries.into_iter().rev() {
            self.rest.push_front(entry);
        }
        Ok(())
    }
}

impl Entry {
    fn path(&self) -> &Path {
        match self {
            Self::Named(path) | Self::Folder(path) | Self::File(path) => path,
        }
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            let (path, named) = match self.rest.pop_front()? {
                Entry::Named(path) if path.as_os_str() == "-" => return Some(Input::Stdin),
                Entry::Named(path) if !path.is_dir() => (path, true),
                Entry::Named(folder) | Entry::Folder(folder) => {
                    if let Err(error) = self.open_folder(&folder) {
                        return Some(Input::Broken(folder, error.to_string()));
                    }
                    continue;
                }
                Entry::File(path) => (path, false),
            };
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
