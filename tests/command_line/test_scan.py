"""`billing-watch scan`: what it reads, what it finds, what it prints, and how it ends."""

import contextlib
import csv
import gzip
import io
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

import jsonschema
import pytest

from conftest import ACCOUNT, PROGRAM, ROOT, found, record, run

SCHEMA = json.loads((ROOT / "docs/finding.schema.json").read_text())


def ids(findings):
    return sorted(int(finding["event_id"][-12:]) for finding in findings)


def test_files_folders_standard_input_and_archives_hold_the_same_findings(folder, tmp_path):
    paths = [folder.put([record(number), record(100 + number, "GetAddresses")], name=f"File{number}") for number in range(1, 6)]
    assert ids(found(folder.path)) == [1, 2, 3, 4, 5]
    assert ids(found(*paths)) == [1, 2, 3, 4, 5]
    assert ids(found("-", stdin=paths[0].read_bytes())) == [1]
    for name, mode in (("logs.tar", "w"), ("logs.tar.gz", "w:gz"), ("logs.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(folder.path, arcname="synced")
        assert ids(found(tmp_path / name)) == [1, 2, 3, 4, 5]
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({"Records": [record(7)]}))
    assert ids(found(plain)) == [7]


def test_a_record_counts_once_however_many_trails_wrote_it(folder):
    folder.put([record(1), record(1), record(2)], name="TrailOne")
    folder.put([record(1)], name="TrailTwo")
    done = run("scan", "--format", "json", folder.path)
    result = json.loads(done.stdout)
    assert ids(result["findings"]) == [1, 2] and result["summary"]["duplicates"] == 2
    # Of equal records, that of the first file is shown, whichever was read first.
    assert all("TrailOne" in finding["log_file"] for finding in result["findings"])


def test_the_result_does_not_depend_on_the_number_of_threads(folder):
    for number in range(40):
        folder.put([record(number), record(number // 2, time="2026-03-02T16:44:05Z")], name=f"File{number:03}")
    outputs = {run("scan", "--format", "jsonl", "--jobs", jobs, folder.path).stdout for jobs in (1, 2, 8)}
    assert len(outputs) == 1


@pytest.mark.parametrize(("options", "wanted"), [
    ((), [1, 2, 3]),
    (("--from", "2026-03-02"), [2, 3]),
    (("--to", "2026-03-01"), [1]),
    (("--from", "2026-03-02", "--to", "2026-03-02"), [2]),
    (("--from", "2026-03-02T16:44:05Z"), [3]),
    (("--account", ACCOUNT), [1, 2, 3]),
    (("--account", "444455556666"), []),
    (("--region", "us-east-1"), [1, 2, 3]),
    (("--region", "eu-west-1"), []),
    (("--minimum-level", "critical"), [1, 2, 3]),
    (("--event-source", "account.amazonaws.com"), []),
])
def test_findings_are_chosen_by_time_account_region_level_and_source(folder, options, wanted):
    for number, day in enumerate(("2026-03-01", "2026-03-02", "2026-03-03"), 1):
        folder.put([record(number, time=f"{day}T16:44:04Z")], day=day.replace("-", ""))
    assert ids(found(*options, folder.path)) == wanted


def test_files_whose_name_is_outside_of_the_dates_are_not_read(folder):
    # Delivered late: within thirty days it counts.
    folder.put([record(1)], day="20260330")
    folder.put([record(2)], day="20260402", body=b"not read")
    folder.put([record(3)], day="20260228", body=b"not read")
    done = run("scan", "--format", "json", "--from", "2026-03-02", "--to", "2026-03-02", folder.path)
    result = json.loads(done.stdout)
    assert done.returncode == 0 and ids(result["findings"]) == [1]
    assert result["summary"]["files_skipped"] == {"outside of the selection": 2}


@pytest.mark.parametrize(("body", "problem"), [
    (b"", "the object is empty"),
    (b"\x1f\x8b", "cut off"),
    (gzip.compress(b'{"Records": [')[:-9], "cut off"),
    (gzip.compress(b'{"Records": ['), "cut off"),
    (gzip.compress(b"[]"), "no Records array"),
    (gzip.compress(b"nothing"), "not JSON"),
    (gzip.compress(b'{"Records": []}') + b"more", "bytes follow"),
    (gzip.compress(json.dumps({"Records": [record(9)]}).encode())[:-4] + b"\0\0\0\0", "corrupt"),
    (gzip.compress(b'{"Records": [' + b" " * 2_000_000 + b"]}"), "expands to more than"),
])
def test_a_broken_file_is_named_and_the_others_are_found(folder, body, problem):
    broken = folder.put([], name="Broken", body=body)
    folder.put([record(1)], name="Good")
    done = run("scan", "--format", "jsonl", "--max-expanded-bytes", 1_000_000, folder.path)
    # What was read before the problem counts.
    before = [9] if problem == "corrupt" else []
    assert done.returncode == 4 and ids(map(json.loads, done.stdout.splitlines())) == [1, *before]
    assert f"billing-watch: {broken}: " in done.stderr and problem in done.stderr, done.stderr
    assert "Incomplete:" in done.stderr


def test_other_files_are_skipped_with_a_reason(folder, tmp_path):
    folder.put([record(1)])
    (folder.path / "readme.txt").write_text("hello")
    (folder.path / "empty.json").write_text("")
    (folder.path / "other.json").write_text('{"a": 1}')
    digest = folder.path / "AWSLogs/111122223333/CloudTrail-Digest/us-east-1/2026/03/02/d.json.gz"
    digest.parent.mkdir(parents=True)
    digest.write_bytes(b"x")
    done = run("scan", "--format", "json", folder.path)
    summary = json.loads(done.stdout)["summary"]
    assert done.returncode == 0
    assert summary["files_skipped"] == {"empty": 1, "no CloudTrail records": 1, "not a log file by its name": 2}


def test_a_damaged_file_of_another_name_is_named_once_records_were_seen(tmp_path):
    export = tmp_path / "export.json"
    records = ",".join(json.dumps(record(number)) for number in range(2))
    export.write_text(f'{{"Records":[{records},@@@,{records}]}}')
    done = run("scan", "--format", "jsonl", export)
    assert done.returncode == 4 and len(done.stdout.splitlines()) == 2 and "export.json: " in done.stderr


def test_of_records_with_one_id_the_one_of_the_highest_level_stays(folder):
    folder.put([record(1, "SetContactAddress")], name="Aaaa")
    folder.put([record(1, "CloseAccount")], name="Bbbb")
    assert [finding["event_name"] for finding in found(folder.path)] == ["CloseAccount"]


def tar(place, *members):
    """Writes an archive of `(header, content)`."""
    with tarfile.open(place, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type = tarfile.GNUTYPE_LONGNAME
    place = tar(tmp_path / "bomb.tgz", (long_name, b"a" * 3_000_000), (tarfile.TarInfo("x.json"), b"{}"))
    done = run("scan", place)
    assert done.returncode == 4 and "more than 1048576 bytes between two files" in done.stderr


def test_what_is_no_plain_file_in_an_archive_is_counted(tmp_path):
    link = tarfile.TarInfo("link.json.gz")
    link.type, link.linkname = tarfile.LNKTYPE, "other.json.gz"
    good = gzip.compress(json.dumps({"Records": [record(1)]}).encode())
    place = tar(tmp_path / "logs.tgz", (tarfile.TarInfo("good.json.gz"), good), (link, b""))
    summary = json.loads(run("scan", "--format", "json", place).stdout)["summary"]
    assert (summary["findings"], summary["files_skipped"]) == (1, {"no plain file in an archive": 1})


def test_no_text_of_an_archive_or_a_rule_reaches_the_terminal_as_it_is(tmp_path):
    place = tar(tmp_path / "bad.tar", (tarfile.TarInfo("\x1b]0;pwned\x07.json.gz"), b"\x1f\x8bno"))
    damaged = bytearray(gzip.decompress(place.read_bytes()))
    damaged[150] ^= 1
    for name, body in (("a.tar", bytes(damaged)), ("b.tgz", place.read_bytes())):
        (tmp_path / name).write_bytes(body)
        for options in ((), ("--resume", tmp_path / "progress")):
            done = run("scan", tmp_path / name, *options)
            assert done.returncode == 4 and "\x1b" not in done.stderr + done.stdout and "\x07" not in done.stderr, done.stderr


def test_odd_files_end_well(folder, tmp_path):
    folder.put([record(1)])
    odd = os.path.join(os.fsencode(folder.path), b"\xe9\x1b.json")
    with open(odd, "wb") as file:
        file.write(b"{")
    (folder.path / "vanished.json").symlink_to("/nowhere")
    (folder.path / "circle").symlink_to(folder.path)
    done = run("scan", "--format", "jsonl", folder.path, tmp_path / "missing")
    assert done.returncode == 4 and ids(map(json.loads, done.stdout.splitlines())) == [1]
    assert "vanished.json: No such file" in done.stderr and "missing: No such file" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_folder_that_may_not_be_read_is_named():
    # Root may read everything, so the program runs as nobody, in a place that everybody may enter.
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        place.chmod(0o755)
        program = shutil.copy(PROGRAM, place)
        logs, closed = place / "logs", place / "logs/closed"
        closed.mkdir(parents=True)
        (logs / "open.json").write_text(json.dumps({"Records": [record(1)]}))
        closed.chmod(0)
        nobody = {"user": 65534} if os.geteuid() == 0 else {}
        done = subprocess.run([program, "scan", "--format", "jsonl", logs], capture_output=True, text=True, **nobody)
        closed.chmod(0o700)
    assert done.returncode == 4 and len(done.stdout.splitlines()) == 1
    assert "logs/closed: Permission denied" in done.stderr


def test_an_output_that_exists_is_kept_and_one_that_can_t_be_written_is_named(folder, tmp_path):
    folder.put([record(1)])
    for option in ("-o", "--report"):
        place = tmp_path / "out"
        place.write_text("mine")
        done = run("scan", folder.path, option, place)
        assert done.returncode == 3 and "exists" in done.stderr and place.read_text() == "mine"
        assert run("scan", folder.path, option, place, "--force").returncode == 0
        assert place.read_text() != "mine"
        done = run("scan", folder.path, option, tmp_path / "no/folder")
        assert done.returncode == 3 and "no/folder can't be written" in done.stderr
    done = run("scan", folder.path, "-o", "/dev/full", "--force")
    assert done.returncode == 3 and "No space left" in done.stderr


def test_a_closed_pipe_is_success(folder):
    for number in range(3_000):
        if number % 1_000 == 0:
            folder.put([record(number + extra) for extra in range(1_000)], name=f"File{number}")
    command = f"set -o pipefail; {PROGRAM} scan --format csv --quiet {folder.path} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("event_time,level,")
    # What else was asked for is done all the same.
    report = folder.path.parent / "report.html"
    command = f"set -o pipefail; {PROGRAM} scan --format csv --fail-on high --report {report} {folder.path} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and "3000: 3000 critical" in done.stderr and "CloseAccount" in report.read_text()


def test_an_output_without_a_folder_is_refused_before_the_work(folder, tmp_path):
    folder.put([record(1)])
    done = run("scan", folder.path, "-o", tmp_path / "missing/x")
    assert done.returncode == 3 and done.stdout == "" and "there is no folder" in done.stderr
    done = run("scan", folder.path, "-o", tmp_path / "x", "--report", tmp_path / "x")
    assert done.returncode == 3 and "the same file" in done.stderr and not (tmp_path / "x").exists()


def test_an_interrupted_scan_leaves_no_half_result(folder, tmp_path):
    fifo = folder.path / "waits.json"
    folder.path.mkdir(parents=True)
    os.mkfifo(fifo)
    place = tmp_path / "out.csv"
    process = subprocess.Popen([PROGRAM, "scan", folder.path, "-o", place], stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT and not place.exists()


@pytest.mark.parametrize(("arguments", "status", "says"), [
    ((), 3, "Usage"),
    (("scan",), 3, "required"),
    (("scan", ".", "--from", "2026-13-01"), 3, "neither a date"),
    (("scan", ".", "--since", "90"), 3, "h, d or w"),
    (("scan", ".", "--since", "1d", "--from", "2026-01-01"), 3, "cannot be used with"),
    (("scan", ".", "--from", "2026-03-02", "--to", "2026-03-01"), 3, "nothing lies between"),
    (("scan", ".", "--account", "1"), 3, "12 digits"),
    (("scan", ".", "--minimum-level", "hgih"), 3, "not one of"),
    (("scan", ".", "--rules", "/nowhere"), 2, "/nowhere"),
    (("--version",), 0, ""),
    (("scan", "--help"), 0, ""),
])
def test_wrong_arguments_have_a_status_and_a_reason(arguments, status, says):
    done = run(*arguments)
    assert done.returncode == status and says in done.stderr, done.stderr


def test_fail_on_tells_findings_from_none(folder):
    folder.put([record(1, "SetContactAddress")])
    assert run("scan", folder.path, "--fail-on", "medium").returncode == 1
    assert run("scan", folder.path, "--fail-on", "high").returncode == 0


def test_the_summary_names_gaps_of_days_and_accounts(folder):
    for day in ("20260301", "20260302", "20260305"):
        folder.put([], day=day)
    folder.put([], day="20260301", account="444455556666", region="eu-west-1")
    done = run("scan", folder.path)
    assert f"account {ACCOUNT}, 2026-03-03 to 2026-03-04 (2 days)" in done.stderr
    assert "account 444455556666, 2026-03-02 to 2026-03-05 (4 days)" in done.stderr
    assert "2 accounts and 2 Regions" in done.stderr and done.stdout == "No findings.\n"
    # What was not asked for, and what could not be read, covers nothing.
    done = run("scan", folder.path, "--account", ACCOUNT, "--from", "2026-03-02", "--to", "2026-03-05", "--region", "us-east-1")
    assert "2026-03-03 to 2026-03-04" in done.stderr and "444455556666" not in done.stderr and "1 account and 1 Region" in done.stderr
    folder.put([], day="20260303", body=b"\x1f\x8b")
    folder.put([record(1)], day="20260304")
    assert f"account {ACCOUNT}, 2026-03-03 to 2026-03-03 (1 day)" in run("scan", folder.path).stderr


def test_data_goes_to_standard_output_and_progress_does_not_unless_there_is_a_terminal(folder):
    folder.put([record(1)])
    done = run("scan", "--format", "jsonl", "--quiet", folder.path)
    assert done.stderr == "" and json.loads(done.stdout)
    assert "\x1b" not in run("scan", folder.path).stderr


def test_a_table_is_coloured_where_it_is_wanted(folder):
    folder.put([record(1), record(2, "GetAddresses")])
    red = "\x1b[1m\x1b[31m"
    assert red in run("scan", "--color", "always", folder.path).stdout
    for options in ((), ("--color", "never")):
        assert "\x1b" not in run("scan", *options, folder.path).stdout
    for variables, coloured in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        assert (red in on_a_terminal("scan", "--quiet", folder.path, env=variables)) == coloured, variables


def on_a_terminal(*arguments, env):
    """Runs the command line with a terminal as standard output. Returns what the terminal got."""
    reader, writer = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "TERM")} | env
    with subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=writer, env=variables) as process:
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(reader, 65_536):
                shown += chunk
    os.close(reader)
    assert process.returncode == 0
    return shown.decode()


def test_json_lines_follow_the_schema(folder):
    folder.put([record(1), record(2, "SetPayInformation", errorCode="AccessDenied"), record(3, userIdentity={}, eventID=None, eventTime="x")])
    findings = found(folder.path)
    assert len(findings) == 3
    for finding in findings:
        jsonschema.validate(finding, SCHEMA)
    # A schema that allows anything would prove nothing.
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**findings[0], "more": 1}, SCHEMA)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0", "x;=1+1", "x\t@SUM(A1)", 'x; "=1', '=HYPERLINK("http://x","y")'])
def test_a_spreadsheet_takes_no_cell_for_a_formula(folder, text):
    hostile = {name: text for name in ("userAgent", "sourceIPAddress", "awsRegion", "errorCode", "eventID")}
    folder.put([record(1, recipientAccountId=text, userIdentity={"type": text, "arn": text, "userName": text}, **hostile)])
    done = run("scan", "--format", "csv", folder.path)
    head, row = csv.reader(io.StringIO(done.stdout))
    assert len(head) == len(row) == 19
    for cell in row:
        # Each character that may separate cells where the file is opened.
        for part in re.split(r"[;,|\t]", cell):
            assert not part.strip(' "').startswith(("=", "+", "-", "@")), cell
        assert not cell.startswith(("\t", "\r")), cell


def test_text_and_ocsf_are_those_of_alerts(folder):
    folder.put([record(1), record(2)])
    text = run("scan", "--format", "text", folder.path).stdout
    assert text.count("WHAT TO DO NOW") == 2 and "aws cloudtrail lookup-events" in text
    lines = run("scan", "--format", "ocsf", folder.path).stdout.splitlines()
    assert [json.loads(line)["class_uid"] for line in lines] == [2004, 2004]


def test_personal_values_are_withheld_unless_they_are_asked_for(folder, tmp_path):
    folder.put([record(1, "SetContactAddress", requestParameters={"city": "Seattle"})])
    for options, is_shown in (((), False), (("--show-values",), True)):
        assert ("Seattle" in run("scan", "--format", "text", *options, folder.path).stdout) == is_shown
        run("scan", folder.path, "--report", tmp_path / f"{is_shown}.html", *options)
        assert ("Seattle" in (tmp_path / f"{is_shown}.html").read_text()) == is_shown


def test_account_names_rules_and_filters_are_the_user_s(folder, tmp_path):
    folder.put([record(1), record(2, "CreateUser", "iam.amazonaws.com")])
    names = tmp_path / "names.yml"
    names.write_text(f'"{ACCOUNT}": Payments')
    assert found(folder.path, "--account-names", names)[0]["account_name"] == "Payments"
    rules = tmp_path / "rules"
    rules.mkdir()
    rule = rules / "user.yml"
    rule.write_text(
        "title: User created\nid: 2b5f3e62-5a5e-4c3b-9c1e-0d6c8f1b7a44\nlogsource: {product: aws, service: cloudtrail}\n"
        "detection:\n  selection: {eventSource: iam.amazonaws.com, eventName: CreateUser}\n  condition: selection\nlevel: high\n"
    )
    assert ids(found(folder.path, "--rules", rules)) == [1, 2]
    rule.write_text(rule.read_text().replace("CreateUser", "[CreateUser"))
    done = run("scan", folder.path, "--rules", rules)
    assert done.returncode == 2 and "user.yml" in done.stderr
