//! The rules that are embedded when the function is built, and what is known of them without reading
//! them.

use std::str::FromStr;

use include_dir::{Dir, include_dir};

use super::RuleFile;

static BUNDLED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rules");

/// The pairs of event source and name that the bundled rules can match, made by `make docs`. A scan
/// needs no more until a candidate appears, which for most function instances is never.
const CANDIDATES: &str = include_str!("../../rules/candidates.tsv");
/// Stands for any event name in that file.
pub(super) const ANY_NAME: &str = "*";
/// The checksums of the rules, made by `make docs`, in the format of `sha256sum`.
const CHECKSUMS: &str = include_str!("../../rules/SHA256SUMS");

/// Where the folders of optional rules are, in `rules/`.
const OPTIONAL_FOLDER: &str = "optional";

/// Names of folders of bundled rules that are a matter of taste. By default there is none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OptionalRules(Vec<String>);

impl OptionalRules {
    /// Returns the names of all folders.
    pub fn known() -> impl Iterator<Item = &'static str> {
        let folders = BUNDLED.get_dir(OPTIONAL_FOLDER);
        folders
            .into_iter()
            .flat_map(Dir::dirs)
            .filter_map(|folder| folder.path().file_name()?.to_str())
    }

    /// Returns whether a file or a line is in force: it is of no optional folder, or of one of these.
    fn include(&self, folder: &str) -> bool {
        folder.is_empty() || self.0.iter().any(|name| name == folder)
    }
}

impl FromStr for OptionalRules {
    type Err = String;

    /// Parses names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let names: Vec<String> = names.map(str::to_owned).collect();
        match names
            .iter()
            .find(|name| !Self::known().any(|known| known == *name))
        {
            None => Ok(Self(names)),
            Some(name) => {
                let known: Vec<&str> = Self::known().collect();
                let name = name.escape_default();
                Err(format!(
                    "`{name}` is not a folder of optional rules; there is {}",
                    known.join(", ")
                ))
            }
        }
    }
}

/// Returns the embedded rules.
pub(super) fn files(optional: &OptionalRules) -> Vec<RuleFile> {
    let folders = optional.0.iter().map(String::as_str);
    [""].into_iter().chain(folders).flat_map(files_in).collect()
}

/// Returns the rules of an optional folder, or with an empty name those of no folder. The tests beside
/// them and the example filters are no rules.
pub(super) fn files_in(folder: &str) -> Vec<RuleFile> {
    let directory = if folder.is_empty() {
        Some(&BUNDLED)
    } else {
        BUNDLED.get_dir(format!("{OPTIONAL_FOLDER}/{folder}"))
    };
    directory
        .into_iter()
        .flat_map(Dir::files)
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "yml")
        })
        .filter_map(|file| {
            Some(RuleFile {
                name: format!("rules/{}", file.path().display()),
                text: file.contents_utf8()?.to_owned(),
            })
        })
        .collect()
}

/// Returns the pairs of event source and name that the rules can match. `None` is any name.
pub(super) fn pairs(
    optional: &OptionalRules,
) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    CANDIDATES.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (source, name) = (fields.next()?, fields.next()?);
        let folder = fields.next().unwrap_or_default();
        optional
            .include(folder)
            .then_some((source, (name != ANY_NAME).then_some(name)))
    })
}

/// Returns the checksums of the rules.
pub(super) fn checksums(optional: &OptionalRules) -> impl Iterator<Item = String> {
    CHECKSUMS.lines().filter_map(|line| {
        let (checksum, path) = line.split_once("  ")?;
        let mut folders = path.split('/');
        let folder = match folders.next()? {
            OPTIONAL_FOLDER => folders.next()?,
            _ => "",
        };
        optional.include(folder).then(|| checksum.to_owned())
    })
}
