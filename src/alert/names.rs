//! The names that the operator gave to accounts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Escaped;
use crate::cloudtrail::is_account_id;

/// Most characters of a name; Organizations allows 50.
const NAME_CHARACTERS: usize = 50;
/// Digits of an account id. YAML takes an id without quotes for a number, which loses zeros in front.
const ID_DIGITS: usize = 12;

/// Names of accounts, by id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccountNames {
    by_id: BTreeMap<String, Escaped>,
}

/// A file of names.
#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    /// What `aws organizations list-accounts` prints.
    Listing {
        #[serde(rename = "Accounts")]
        accounts: Vec<ListedAccount>,
    },
    /// Names by id.
    Names(BTreeMap<Id, String>),
}

#[derive(Deserialize)]
struct ListedAccount {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name", default)]
    name: String,
}

/// An account's id, as text or as the number that YAML makes of it.
#[derive(Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

/// A file of account names can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccountNamesError {
    /// Neither of the two forms.
    #[error(
        "neither a map of names by account id nor the output of `aws organizations list-accounts`: \
         {0}"
    )]
    Unreadable(String),
    /// A key is not an account id.
    #[error("`{0}` is not an account id; write its 12 digits")]
    Id(Escaped),
}

impl AccountNames {
    /// Reads JSON or YAML: names by id, or what `aws organizations list-accounts` prints.
    pub fn parse(text: &str) -> Result<Self, AccountNamesError> {
        // The YAML parser takes JSON, too, but a hundred times as long.
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(_) => yaml_serde::from_str(text)
                .map_err(|error| AccountNamesError::Unreadable(error.to_string()))?,
        };
        let listed: Vec<(String, String)> = match file {
            File::Listing { accounts } => accounts
                .into_iter()
                .map(|account| (account.id, account.name))
                .collect(),
            File::Names(names) => names
                .into_iter()
                .map(|(id, name)| match id {
                    Id::Number(number) => (format!("{number:0ID_DIGITS$}"), name),
                    Id::Text(text) => (text, name),
                })
                .collect(),
        };
        let mut by_id = BTreeMap::new();
        for (id, name) in listed {
            if !is_account_id(&id) {
                return Err(AccountNamesError::Id(Escaped::name(&id, NAME_CHARACTERS)));
            }
            if !name.trim().is_empty() {
                by_id.insert(id, Escaped::untrusted(name.trim(), NAME_CHARACTERS));
            }
        }
        Ok(Self { by_id })
    }

    /// Returns the name of an account.
    pub fn get(&self, id: &str) -> Option<Escaped> {
        self.by_id.get(id).cloned()
    }

    /// Returns how many accounts have a name.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns whether no account has a name.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
