"""`billing-watch rules …` and `preview`."""

import gzip
import json

import pytest

from conftest import ACCOUNT, ROOT, record, run

RULE = """title: User created
id: 2b5f3e62-5a5e-4c3b-9c1e-0d6c8f1b7a44
logsource: {product: aws, service: cloudtrail}
detection:
  selection: {eventSource: workmail.amazonaws.com, eventName: CreateUser}
  own: {sourceIPAddress|startswith: '10.'}
  condition: selection and not own
level: high
"""


@pytest.fixture
def rules(tmp_path):
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "user.yml").write_text(RULE)
    return folder


def write_tests(rules, **tests):
    (rules / "user.tests.json").write_text(json.dumps(tests))


def user(**members):
    return {"eventSource": "workmail.amazonaws.com", "eventName": "CreateUser", **members}


def test_the_rules_are_listed_with_the_highest_level_first(rules):
    lines = run("rules", "list").stdout.splitlines()
    levels = [line.split()[0] for line in lines]
    assert len(lines) == len(list((ROOT / "rules").glob("*.yml"))) and levels[0] == "critical" and levels[-1] == "informational"
    assert any("User created" in line for line in run("rules", "list", "--rules", rules).stdout.splitlines())
    assert len(run("rules", "list", "--optional-rules", "purchases").stdout.splitlines()) > len(lines)


def test_a_rule_is_shown_by_the_beginning_of_its_id():
    line = run("rules", "list").stdout.splitlines()[0]
    shown = run("rules", "show", line.split()[1][:8]).stdout
    assert shown.splitlines()[0] in line and "What to do:" in shown and "Tags:" in shown
    for wrong, says in (("xyz", "no rule"), ("", "give more of it")):
        done = run("rules", "show", wrong)
        assert done.returncode == 3 and says in done.stderr


def test_the_bundled_rules_pass_their_own_check():
    done = run("rules", "check", ROOT / "rules/optional/purchases")
    assert done.returncode == 0 and " 0 problems" in done.stdout, done.stdout


def test_the_check_runs_the_tests_beside_the_rules(rules):
    write_tests(rules, match=[user()], no_match=[user(sourceIPAddress="10.0.0.1")])
    done = run("rules", "check", rules)
    assert done.returncode == 0 and done.stdout == "1 file, 2 tested records, 0 problems\n"
    write_tests(rules, match=[user(), user(eventName="DeleteUser")], no_match=[user()])
    done = run("rules", "check", rules)
    assert done.returncode == 1
    assert "user.tests.json: the rule does not match record 2 of `match`" in done.stdout
    assert "user.tests.json: the rule matches record 1 of `no_match`" in done.stdout


@pytest.mark.parametrize(("tests", "says"), [("{", "user.tests.json:1: "), ("{}", "holds no records"), ("[]", "holds no records")])
def test_tests_that_test_nothing_are_a_problem(rules, tests, says):
    (rules / "user.tests.json").write_text(tests)
    done = run("rules", "check", rules)
    assert done.returncode == 1 and says in done.stdout


@pytest.mark.parametrize(("change", "says"), [
    (("level: high", "level: hgih"), "user.yml:8"),
    (("condition: selection and not own", "condition: selectoin"), "user.yml:"),
    (("title: User created", "title: [User created"), "user.yml"),
])
def test_a_broken_rule_is_named_with_its_line_and_a_remedy(rules, change, says):
    (rules / "user.yml").write_text(RULE.replace(*change))
    done = run("rules", "check", rules)
    assert done.returncode == 1 and says in done.stdout and ";" in done.stdout, done.stdout
    # A scan with it would be another scan than the user wants.
    assert run("scan", ".", "--rules", rules).returncode == 2


def explain(tmp_path, records, *options):
    place = tmp_path / "records.json"
    place.write_text(json.dumps(records))
    done = run("rules", "explain", place, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_explain_says_which_rule_matches(tmp_path):
    text = explain(tmp_path, {"Records": [record(1), record(2, "GetAddresses")]})
    assert "Record 1: CloseAccount of billingconsole.amazonaws.com\n  matches: AWS account closed (critical, rules/account-closed.yml)\n" in text
    assert "Record 2: GetAddresses" in text


def test_explain_says_which_condition_failed(tmp_path, rules):
    text = explain(tmp_path, [user(sourceIPAddress="10.0.0.1")], "--rules", rules)
    assert "does not match: User created" in text and "    own matches, and must not\n" in text
    text = explain(tmp_path, user(eventName="DeleteUser"), "--rules", rules)
    assert "no rule names this event of this source" in text
    assert "    selection wants eventName: createuser, which is DeleteUser\n" in text


def test_explain_shows_no_text_of_a_record_unescaped(tmp_path, rules):
    evil = "\x1b[31mDeleteUser\u202e"
    text = explain(tmp_path, user(eventName=evil, sourceIPAddress=evil), "--rules", rules)
    assert "\x1b" not in text and "\u202e" not in text and "DeleteUser" in text


@pytest.mark.parametrize(("content", "says"), [("{", "is not JSON"), ("\x00", "is not JSON")])
def test_a_file_that_is_no_json_is_named(tmp_path, content, says):
    place = tmp_path / "x.json"
    place.write_text(content)
    for command in (("rules", "explain"), ("preview",)):
        done = run(*command, place)
        assert done.returncode == 3 and says in done.stderr
        assert run(*command, tmp_path / "missing").returncode == 3


def test_preview_shows_the_alert_in_each_format(tmp_path):
    place = tmp_path / "record.json"
    place.write_text(json.dumps({"Records": [record(1), record(2, "SetPayInformation")]}))
    text = run("preview", place).stdout
    assert text.startswith("Subject: [CRITICAL] CloseAccount and 1 more in 111122223333 by root\n") and "WHAT TO DO NOW" in text
    chat = json.loads(run("preview", place, "--format", "chat").stdout)
    assert chat["source"] == "custom" and chat["content"]["title"].startswith("[CRITICAL]")
    ocsf = run("preview", place, "--format", "ocsf").stdout
    assert ocsf.count('"class_uid": 2004') == 2
    place.write_text(json.dumps({"detail": record(1)}))
    assert "CloseAccount" in run("preview", place).stdout
    place.write_text(json.dumps(record(1, "GetAddresses", "s3.amazonaws.com")))
    done = run("preview", place)
    assert done.returncode == 0 and done.stdout == "" and "No alert at this minimum level" in done.stderr


def test_preview_groups_and_selects_as_the_function_does(tmp_path):
    role = {"type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Finance/alice", "accountId": ACCOUNT}
    place = tmp_path / "log.json.gz"
    records = [record(1), record(2, "SetPayInformation", userIdentity=role), record(3, "GetBillsForBillingPeriod")]
    place.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    text = run("preview", place).stdout
    assert [line for line in text.splitlines() if line.startswith("Subject: ")] == [
        f"Subject: [CRITICAL] CloseAccount in {ACCOUNT} by root", f"Subject: [HIGH] SetPayInformation in {ACCOUNT} by role Finance",
    ]
    assert "GetBillsForBillingPeriod" in run("preview", place, "--minimum-level", "informational").stdout
    assert "Record 3: GetBillsForBillingPeriod" in run("rules", "explain", place).stdout


@pytest.mark.parametrize(("shell", "says"), [("bash", "complete -F"), ("zsh", "#compdef billing-watch"), ("fish", "complete -c billing-watch")])
def test_completions_are_printed(shell, says):
    done = run("completions", shell)
    assert done.returncode == 0 and says in done.stdout


def test_each_command_has_a_man_page(tmp_path):
    assert run("man", tmp_path).returncode == 0
    assert {"billing-watch.1", "billing-watch-scan.1", "billing-watch-backfill-start.1"} <= {path.name for path in tmp_path.iterdir()}
    assert "minimum\\-level" in (tmp_path / "billing-watch-scan.1").read_text()
    done = run("man", tmp_path / "missing")
    assert done.returncode == 3 and "missing can't be written" in done.stderr
