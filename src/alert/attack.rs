//! The names of MITRE ATT&CK's tactics and techniques that rules are tagged with.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Escaped;

/// The release of ATT&CK that the names are from.
const VERSION: &str = "19";

/// The tactics and the techniques that the bundled rules name, in the shape of ATT&CK's own STIX bundle.
static BUNDLE: LazyLock<Bundle> =
    LazyLock::new(|| serde_json::from_str(include_str!("attack.json")).unwrap_or_default());

#[derive(Default, Deserialize)]
struct Bundle {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    name: String,
    /// The name of a tactic in tags.
    #[serde(default)]
    x_mitre_shortname: String,
    external_references: Vec<Reference>,
    /// The tactics of a technique.
    #[serde(default)]
    kill_chain_phases: Vec<Phase>,
}

#[derive(Deserialize)]
struct Reference {
    external_id: String,
}

#[derive(Deserialize)]
struct Phase {
    phase_name: String,
}

impl Object {
    fn id(&self) -> &str {
        self.external_references
            .first()
            .map_or("", |reference| &reference.external_id)
    }

    fn has_tactic(&self, tactic: &Self) -> bool {
        let mut phases = self.kill_chain_phases.iter();
        phases.any(|phase| phase.phase_name == tactic.x_mitre_shortname)
    }
}

/// OCSF's `attacks` for the tags of a rule: each technique with each tactic of the rule that it serves, and
/// each tactic that no technique of the rule serves.
///
/// A technique that is not in the bundle, of a user's rule, has its id alone.
pub(super) fn attacks(tags: &[Escaped]) -> Vec<Value> {
    let names: Vec<String> = tags
        .iter()
        .filter_map(|tag| tag.as_str().strip_prefix("attack."))
        .map(str::to_ascii_lowercase)
        .collect();
    let tactics: Vec<&Object> = BUNDLE
        .objects
        .iter()
        .filter(|object| names.contains(&object.x_mitre_shortname))
        .collect();
    let mut used = vec![false; tactics.len()];
    let mut attacks = Vec::new();
    for id in names.iter().filter(|name| is_technique(name)) {
        let id = id.to_ascii_uppercase();
        let known = BUNDLE.objects.iter().find(|object| object.id() == id);
        let served = tactics
            .iter()
            .enumerate()
            .filter(|(_, tactic)| known.is_none_or(|technique| technique.has_tactic(tactic)));
        let mut alone = true;
        for (index, tactic) in served {
            alone = false;
            used[index] = true;
            attacks.push(attack(Some(tactic), Some((&id, known))));
        }
        if alone {
            attacks.push(attack(None, Some((&id, known))));
        }
    }
    let unused = tactics.iter().zip(used).filter(|(_, used)| !used);
    attacks.extend(unused.map(|(tactic, _)| attack(Some(tactic), None)));
    attacks
}

/// `t1657`, `t1078.004`.
fn is_technique(name: &str) -> bool {
    name.strip_prefix('t').is_some_and(|number| {
        number.len() >= 4
            && number
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

fn attack(tactic: Option<&Object>, technique: Option<(&str, Option<&Object>)>) -> Value {
    let mut attack = json!({"version": VERSION});
    if let Some(tactic) = tactic {
        attack["tactic"] = json!({
            "uid": tactic.id(),
            "name": tactic_name(&tactic.x_mitre_shortname),
            "src_url": format!("https://attack.mitre.org/tactics/{}/", tactic.id()),
        });
    }
    if let Some((id, known)) = technique {
        let member = if id.contains('.') {
            "sub_technique"
        } else {
            "technique"
        };
        let page = id.replace('.', "/");
        attack[member] = json!({
            "uid": id,
            "src_url": format!("https://attack.mitre.org/techniques/{page}/"),
        });
        if let Some(known) = known {
            attack[member]["name"] = json!(known.name);
        }
    }
    attack
}

/// `privilege-escalation` as ATT&CK's own pages write it.
fn tactic_name(short: &str) -> String {
    let words = short.split('-').map(|word| match word {
        "and" => word.to_owned(),
        word => {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
