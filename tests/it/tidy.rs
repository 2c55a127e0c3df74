//! Promises that the compiler can't keep: directions of imports, documents that match the code.

use billing_watch::rules::RulePack;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

#[path = "../../examples/rules_reference.rs"]
#[allow(dead_code, reason = "its `main` is the example's")]
mod rules_reference;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn files_under(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_under(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            files.push(path);
        }
    }
    files
}

/// The module of `src/` that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules of this crate that a source file names.
fn imports(text: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("crate::").skip(1) {
        let names: String = match part.strip_prefix('{') {
            Some(list) => list.split("};").next().unwrap().to_owned(),
            None => part.to_owned(),
        };
        let listed = part.starts_with('{');
        let mut depth = 0_i32;
        let mut word = String::new();
        for character in names.chars() {
            if character.is_alphanumeric() || character == '_' {
                word.push(character);
                continue;
            }
            if depth == 0 && modules.contains(&word) {
                found.insert(word.clone());
            }
            word.clear();
            depth += i32::from(character == '{') - i32::from(character == '}');
            if !listed {
                break;
            }
        }
    }
    found
}

#[test]
fn imports_run_one_way() {
    let allowed: &[(&str, &[&str])] = &[
        ("envelope", &["cloudtrail"]),
        ("cloudtrail", &[]),
        ("rules", &["cloudtrail"]),
        ("alert", &["cloudtrail", "envelope", "rules"]),
        ("ledger", &["alert", "cloudtrail", "envelope"]),
        ("report", &["rules"]),
        (
            "pipeline",
            &[
                "alert",
                "cloudtrail",
                "envelope",
                "ledger",
                "report",
                "rules",
            ],
        ),
        ("config", &["cloudtrail", "rules"]),
        ("metrics", &["report"]),
        (
            "aws",
            &["alert", "config", "envelope", "ledger", "pipeline", "rules"],
        ),
    ];
    let modules: BTreeSet<String> = allowed.iter().map(|(name, _)| (*name).to_owned()).collect();
    for path in files_under(&root().join("src"), ".rs") {
        let module = module(&path);
        let Some((_, allowed)) = allowed.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        for import in imports(&text, &modules) {
            assert!(
                import == module || allowed.contains(&import.as_str()),
                "{} imports {import}",
                path.display()
            );
        }
    }
}

#[test]
fn only_the_edge_names_the_sdk() {
    for path in files_under(&root().join("src"), ".rs") {
        if ["aws", "main", "bin"].contains(&module(&path).as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["aws_sdk", "aws_config", "aws_smithy", "lambda_runtime::"] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

/// A renderer lays out content. It sees no record, no finding, and makes no text harmless by saying so.
#[test]
fn renderers_see_no_record() {
    for renderer in ["text", "body", "chat", "ocsf", "words", "header", "attack"] {
        let text = read(&format!("src/alert/{renderer}.rs"));
        let imports = text.split("use ").skip(1).map(|part| {
            let names = part.split(';').next().unwrap();
            names.split(|c: char| !c.is_alphanumeric() && c != '_')
        });
        for name in imports.flatten() {
            assert!(!["Record", "Finding"].contains(&name), "{renderer}: {name}");
        }
        for path in [
            "cloudtrail::Record",
            "rules::Finding",
            ".record.",
            "Escaped::trusted",
        ] {
            assert!(!text.contains(path), "{renderer}: {path}");
        }
    }
}

#[test]
fn the_rules_reference_is_current() {
    assert!(
        read("docs/rules.md") == rules_reference::reference(),
        "docs/rules.md is not what rules/ gives: run `make docs`"
    );
}

#[test]
fn the_index_of_the_bundled_rules_is_current() {
    let (candidates, checksums) = RulePack::bundled_index().unwrap();
    for (file, expected) in [
        ("rules/candidates.tsv", candidates),
        ("rules/SHA256SUMS", checksums),
    ] {
        assert!(
            read(file) == expected,
            "{file} is not what rules/ gives: run `make docs`"
        );
    }
    for optional in ["", "purchases"] {
        let optional = optional.parse().unwrap();
        let compiled = RulePack::load(&optional, &[]).unwrap().pack;
        let bundled = RulePack::bundled(&optional);
        let now = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(bundled.identity(now), compiled.identity(now));
        assert_eq!(bundled.candidates(), compiled.candidates());
        assert_eq!(bundled.sources(), compiled.sources());
    }
}

#[test]
fn the_changelog_names_the_version() {
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    assert!(read("CHANGELOG.md").contains(&heading), "no `{heading}`");
}

#[test]
fn the_reference_explains_every_variable() {
    let reference = read("docs/reference.md");
    for name in billing_watch::config::VARIABLES {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn the_template_sets_every_variable_and_no_other() {
    let template = read("template.yaml");
    let environment = template.split("      Variables:\n").nth(1).unwrap();
    let set: BTreeSet<&str> = environment
        .lines()
        .map_while(|line| line.strip_prefix("        "))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(set, BTreeSet::from(billing_watch::config::VARIABLES));
}

#[test]
fn the_reference_explains_every_counter() {
    let reference = read("docs/reference.md");
    for (name, _) in billing_watch::report::Report::default().counters() {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn the_reference_explains_every_failure_and_whether_it_is_retried() {
    let guide = read("docs/reference.md");
    for error_type in billing_watch::envelope::ErrorType::ALL {
        let rows = guide
            .lines()
            .filter(|line| line.starts_with(&format!("| `{error_type}` |")));
        let [row] = &rows.collect::<Vec<_>>()[..] else {
            panic!("docs/reference.md must have one row for {error_type}");
        };
        let again = row.split('|').nth(3).unwrap().trim();
        let expected = match error_type.is_retryable() {
            true if error_type.as_str() == "SeveralFailures" => "as above",
            true => "yes",
            false => "no",
        };
        assert_eq!(again.split(',').next(), Some(expected), "{error_type}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files_under(&root().join("docs"), ".md");
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        documents.push(root().join(name));
    }
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target}", document.display());
        }
    }
}

#[test]
fn dependencies_say_what_for() {
    let manifest = read("Cargo.toml");
    let mut previous = "";
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains('=') {
            assert!(previous.starts_with('#'), "no reason for {line}");
        }
        previous = line;
    }
}

#[test]
fn modules_stay_readable_in_one_sitting() {
    for path in files_under(&root().join("src"), ".rs") {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 450, "{} has {lines} lines", path.display());
    }
}
