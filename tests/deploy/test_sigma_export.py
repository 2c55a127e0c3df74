"""The rules as `make sigma-export` writes them: SigmaHQ's validators accept them, and as SQL they find what the function finds."""

import json
import re
import sqlite3
import subprocess
import sys

import pytest
from samtranslator.yaml_helper import yaml_parse

from stack import ROOT

SOURCES = sorted([*ROOT.glob("rules/*.yml"), *ROOT.glob("rules/optional/*/*.yml")])
RULES = "rules/cloud/aws/cloudtrail"


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sigma") / "export"
    subprocess.run([sys.executable, ROOT / "scripts/sigma_export.py", folder], check=True)
    return folder


def sigma_check(folder):
    return subprocess.run(["make", "-s", "sigma-check", f"RULES={folder}"], cwd=ROOT, capture_output=True, text=True)


def test_sigmahq_s_validators_accept_every_exported_rule(export):
    done = sigma_check(export / RULES)
    assert done.returncode == 0 and "0 errors, 0 condition errors and 0 issues" in done.stdout, done.stdout


@pytest.mark.parametrize("original, changed", [
    (r"attack\.t1657", "attack.t9999"),
    (r"attack\.impact", "attack.impacts"),
    ("title: AWS", "title: aws"),
    ("status: experimental", "status: stable"),
])
def test_the_validators_notice_a_wrong_rule(export, tmp_path, original, changed):
    text = (export / RULES / "aws_cloudtrail_payment_made.yml").read_text()
    wrong = re.sub(original, changed, text)
    assert wrong != text
    (tmp_path / "aws_cloudtrail_payment_made.yml").write_text(wrong)
    assert sigma_check(tmp_path).returncode != 0


def test_every_rule_is_exported_with_what_a_siem_needs_and_no_more(export):
    exported = {rule["id"]: rule for rule in (yaml_parse(path.read_text()) for path in (export / RULES).iterdir())}
    for source in SOURCES:
        original, rule = yaml_parse(source.read_text()), exported.pop(yaml_parse(source.read_text())["id"])
        assert rule["detection"] == original["detection"] and rule["level"] == original["level"]
        assert rule["references"] == original["references"] and rule["falsepositives"] == original["falsepositives"]
        assert set(original["tags"]) <= set(rule["tags"]) and "response" not in rule
        assert rule["description"].startswith("Detects ") and original["description"].split(".")[0] in rule["description"]
        # What is unverified stays said.
        comments = lambda text: [line.strip() for line in text.split("# What to do now")[0].splitlines() if line.strip().startswith("#")]
        path = export / RULES / f"aws_cloudtrail_{source.stem.replace('-', '_')}.yml"
        assert comments(path.read_text()) == comments(source.read_text())
    assert exported == {}


def test_every_rule_is_converted_for_every_product(export):
    names = {path.stem for path in (export / RULES).iterdir()}
    for folder, part in [("splunk", 'sourcetype="aws:cloudtrail"'), ("elastic-eql", 'event.dataset:"aws.cloudtrail"'),
                         ("elastic-esql", "from logs-aws.cloudtrail-*"), ("sqlite", "FROM cloudtrail")]:
        searches = {path.stem: path.read_text() for path in (export / folder).iterdir()}
        assert set(searches) == names
        for name, search in searches.items():
            assert part in search, (folder, name)
            if folder.startswith("elastic"):
                assert "eventSource" not in search and "requestParameters" not in search, (folder, name)


def records():
    """Returns the records of all rules' tests, each with an event id of its own."""
    found = []
    for source in SOURCES:
        tests = json.loads(source.with_suffix(".tests.json").read_text())
        found += [*tests["match"], *tests["no_match"]]
    return [{**record, "eventID": f"event-{number}"} for number, record in enumerate(found)]


def columns(record, prefix=""):
    """Returns a record's members as columns: `{"userIdentity.type": "Root"}`."""
    found = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= columns(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found[prefix + name] = str(value).lower()
        else:
            found[prefix + name] = value
    return found


def table(rows, needed):
    """Returns a database with the table `cloudtrail`. Sigma compares without regard to case, so its columns do, too."""
    names = sorted({name for row in rows for name in row} | needed)
    database = sqlite3.connect(":memory:")
    database.create_function("REGEXP", 2, lambda pattern, value: value is not None and re.search(pattern, value) is not None)
    database.execute(f"CREATE TABLE cloudtrail ({', '.join(f'`{name}` COLLATE NOCASE' for name in names)})")
    places = ", ".join("?" * len(names))
    database.executemany(f"INSERT INTO cloudtrail VALUES ({places})", [[row.get(name) for name in names] for row in rows])
    return database


def test_the_rules_as_sql_find_what_the_function_finds(export):
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--example", "rule-matches"], cwd=ROOT, check=True)
    given = records()
    lines = "".join(json.dumps(record) + "\n" for record in given)
    done = subprocess.run([ROOT / "target/debug/examples/rule-matches"], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    expected = {tuple(line.split("\t")) for line in done.stdout.splitlines()}
    searches = {path.stem: path.read_text() for path in (export / "sqlite").iterdir()}
    # A member that no record has is a column without a value.
    needed = {name for search in searches.values() for name in re.findall(r"`([^`]+)`", search)}
    database = table([columns(record) for record in given], needed)
    database.row_factory = sqlite3.Row
    found = set()
    for name, search in searches.items():
        rule = yaml_parse((export / RULES / f"{name}.yml").read_text())
        found |= {(rule["id"], row["eventID"]) for row in database.execute(search)}
    assert len(given) > 500 and len(expected) > 250
    assert found == expected
