//! The user's rules, from a directory or from S3.

use std::{error::Error, path::Path};

use super::{Clients, request_error::RequestError};
use crate::{
    config::Location,
    rules::{RuleFile, RuleProblem},
};

/// Largest rule file that is read, in bytes.
const RULE_FILE_BYTES: usize = 256 << 10;
/// Most rule files that are read.
const RULE_FILES: usize = 2_000;

impl Clients {
    /// Reads the user's rule files, in the order of their names. Files that cannot be rules are listed
    /// beside them.
    pub async fn rule_files(&self, location: &Location) -> Result<RuleFiles, RulesError> {
        let mut files = RuleFiles::default();
        match location {
            Location::Path(directory) => {
                read_directory(Path::new(directory), &mut files)?;
            }
            Location::S3 { bucket, key } => {
                self.read_prefix(bucket, key, &mut files).await?;
            }
        }
        files.readable.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    async fn read_prefix(
        &self,
        bucket: &str,
        prefix: &str,
        files: &mut RuleFiles,
    ) -> Result<(), RulesError> {
        // Without its slash a prefix would take in its neighbours.
        let slash = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        let prefix = format!("{prefix}{slash}");
        let place = format!("s3://{bucket}/{prefix}");
        let mut pages = self
            .s3
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| RulesError::new(&place, RequestError(error)))?;
            for object in page.contents() {
                let key = object.key().unwrap_or_default();
                if !is_rule_name(key) {
                    continue;
                }
                let name = format!("s3://{bucket}/{key}");
                let size = object.size().unwrap_or_default();
                if usize::try_from(size).is_ok_and(|size| size > RULE_FILE_BYTES) {
                    files.reject_long(&name);
                    continue;
                }
                if files.readable.len() == RULE_FILES {
                    return Err(RulesError::new(&place, "more than 2,000 rule files"));
                }
                let bytes = self.read_object(bucket, key).await;
                files.add(
                    name.clone(),
                    bytes.map_err(|error| RulesError::new(&name, error))?,
                );
            }
        }
        Ok(())
    }

    pub(super) async fn read_object(&self, bucket: &str, key: &str) -> Result<Vec<u8>, Cause> {
        let object = self.s3.get_object().bucket(bucket).key(key).send().await;
        let body = object.map_err(RequestError)?.body;
        Ok(body.collect().await?.to_vec())
    }
}

/// The user's rule files, and those that cannot be rules.
#[derive(Debug, Default)]
pub struct RuleFiles {
    /// Files that may hold a rule.
    pub readable: Vec<RuleFile>,
    /// Files that were left out, and why.
    pub rejected: Vec<RuleProblem>,
}

impl RuleFiles {
    /// Reads the rule files of a folder, in the order of their names.
    pub fn in_folder(folder: &Path) -> Result<Self, RulesError> {
        let mut files = Self::default();
        read_directory(folder, &mut files)?;
        files.readable.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn add(&mut self, name: String, bytes: Vec<u8>) {
        if bytes.len() > RULE_FILE_BYTES {
            return self.reject_long(&name);
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.readable.push(RuleFile { name, text }),
            Err(_) => self.reject(&name, "is not UTF-8", "save it as UTF-8"),
        }
    }

    fn reject_long(&mut self, name: &str) {
        self.reject(
            name,
            "is longer than 256 KiB",
            "split it into rules, one a file",
        );
    }

    fn reject(&mut self, name: &str, problem: &str, remedy: &str) {
        self.rejected.push(RuleProblem {
            file: name.to_owned(),
            line: None,
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

/// Why something could not be read.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The user's rules could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("failed to read rules from {place}")]
pub struct RulesError {
    place: String,
    source: Cause,
}

impl RulesError {
    fn new(place: &str, cause: impl Into<Cause>) -> Self {
        Self {
            place: place.to_owned(),
            source: cause.into(),
        }
    }
}

fn read_directory(directory: &Path, files: &mut RuleFiles) -> Result<(), RulesError> {
    let place = directory.display().to_string();
    let unreadable = |error: std::io::Error| RulesError::new(&place, error);
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.display().to_string();
        if path.is_dir() {
            read_directory(&path, files)?;
        } else if is_rule_name(&name) {
            let bytes = std::fs::read(&path).map_err(|error| RulesError::new(&name, error))?;
            files.add(name, bytes);
        }
    }
    Ok(())
}

fn is_rule_name(name: &str) -> bool {
    [".yml", ".yaml"]
        .iter()
        .any(|ending| name.ends_with(ending))
}
