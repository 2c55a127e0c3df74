"""`billing-watch scan s3://…` on moto: the same findings as in a folder, and problems by name."""

import json

from conftest import BUCKET, found, record, run, upload


def without_place(findings):
    return [{name: value for name, value in finding.items() if name != "log_file"} for finding in findings]


def test_a_bucket_and_a_folder_of_the_same_files_hold_the_same_findings(s3, environment, folder):
    # More than one page of a listing, objects that are no log files, and one that expands to more than a buffer.
    for number in range(1_100):
        folder.put([record(number)] if number % 10 == 0 else [], name=f"File{number:04}")
    folder.put([record(5_000 + number, userAgent="x" * 10_000) for number in range(300)], name="Large")
    (folder.path / "readme.txt").write_text("no")
    upload(s3, folder)
    local, remote = (run("scan", "--format", "json", place, env=environment) for place in (folder.path, f"s3://{BUCKET}/"))
    assert local.returncode == remote.returncode == 0, remote.stderr
    local, remote = json.loads(local.stdout), json.loads(remote.stdout)
    assert len(local["findings"]) == 410 and without_place(local["findings"]) == without_place(remote["findings"])
    assert local["summary"] == remote["summary"]
    assert remote["findings"][0]["log_file"].startswith(f"s3://{BUCKET}/AWSLogs/")
    text = run("scan", "--format", "text", f"s3://{BUCKET}/AWSLogs/o-exampleorg1", env=environment).stdout
    assert f"Print it: aws s3 cp s3://{BUCKET}/AWSLogs/" in text


def test_many_threads_lose_no_object(s3, environment, folder):
    for number in range(600):
        folder.put([record(number)] if number % 10 == 0 else [], name=f"File{number:04}")
    upload(s3, folder)
    for jobs in (1, 8, 32):
        done = run("scan", "--format", "json", "--jobs", jobs, f"s3://{BUCKET}/", env=environment)
        summary = json.loads(done.stdout)["summary"]
        assert (done.returncode, summary["files_read"], summary["findings"]) == (0, 600, 60), done.stderr


def test_objects_outside_of_the_dates_are_listed_and_not_read(s3, environment, folder):
    folder.put([record(1)], day="20260302")
    folder.put([], day="20250302", body=b"not read")
    upload(s3, folder)
    assert len(found(f"s3://{BUCKET}/", "--from", "2026-03-01", env=environment)) == 1


def test_a_broken_object_and_a_missing_bucket_are_named(s3, environment, folder):
    folder.put([record(1)])
    folder.put([], name="Broken", body=b"\x1f\x8b")
    upload(s3, folder)
    done = run("scan", "--format", "jsonl", f"s3://{BUCKET}", "s3://no-such-bucket/AWSLogs/", env=environment)
    assert done.returncode == 4 and len(done.stdout.splitlines()) == 1
    assert f"s3://{BUCKET}/AWSLogs/" in done.stderr and "cut off" in done.stderr
    assert "s3://no-such-bucket/AWSLogs/: it does not exist: NoSuchBucket" in done.stderr
    done = run("scan", "s3:///prefix", env=environment)
    assert done.returncode == 3 and "names no bucket" in done.stderr
