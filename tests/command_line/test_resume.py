"""`billing-watch scan --resume`: what an interrupted scan has done is not done again, and nothing is left out."""

import contextlib
import datetime
import http.server
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
import urllib.request

import pytest

from conftest import BUCKET, PROGRAM, record, run, upload


def interrupted(arguments, when, env=None):
    """Starts a scan, and presses Ctrl-C when `when` returns. Returns its exit status and standard error."""
    process = subprocess.Popen(
        [PROGRAM, "scan", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **(env or {})},
    )
    try:
        when()
        process.send_signal(signal.SIGINT)
        _, diagnostics = process.communicate(timeout=60)
        return process.returncode, diagnostics.decode()
    finally:
        process.kill()


def until_done(file, files):
    """Returns a function that waits until the file of `--resume` says that so many files are read."""
    def wait():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if file.exists() and json.loads(file.read_text())["collection"]["summary"]["files_read"] >= files:
                return
            time.sleep(0.05)
        raise AssertionError(f"{file} never told of {files} files")
    return wait


def started(file):
    """Returns a function that waits until a scan with this file of `--resume` has read what it can read."""
    def wait():
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.5)
    return wait


def held(folder, name):
    """A log file that cannot be read to its end before somebody writes into it."""
    place = folder.put([], name=name)
    place.unlink()
    os.mkfifo(place)
    return place


def test_an_interrupted_scan_goes_on_where_it_was(folder, tmp_path):
    files = [folder.put([record(number)], name=f"File{number:03}") for number in range(40)]
    files[20].unlink()
    os.mkfifo(files[20])
    # Files after the one that blocks are read by another thread. Some writes of the file lie 2 seconds apart.
    progress = tmp_path / "scan.progress"
    arguments = [folder.path, "--resume", progress, "--format", "json", "--jobs", 2]
    status, diagnostics = interrupted(arguments, started(progress))
    assert status == 130 and "interrupted; repeat the command to go on" in diagnostics
    files[20].unlink()
    folder.put([record(20)], name="File020")
    # What was read is not read again: it may be gone.
    for number in [*range(20), *range(21, 40)]:
        files[number].write_bytes(b"not read")
    done = run("scan", *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["findings"]) == 40 and result["summary"]["files_read"] == 40 and result["summary"]["duplicates"] == 0
    assert not progress.exists()


def test_a_resumed_scan_has_the_result_of_an_uninterrupted_one(folder, tmp_path):
    for number in range(60):
        folder.put([record(number), record(number + 1)] if number % 3 else [], day=f"202603{number % 28 + 1:02}", name=f"File{number:03}")
    folder.put([], name="Broken", body=b"\x1f\x8b")
    (folder.path / "readme.txt").write_text("no")
    whole = run("scan", folder.path, "--format", "json")
    block = held(folder, "Zzz")
    progress = tmp_path / "scan.progress"
    arguments = [folder.path, "--resume", progress, "--format", "json"]
    assert interrupted(arguments, started(progress))[0] == 130
    assert interrupted(arguments, started(progress))[0] == 130
    block.unlink()
    resumed = run("scan", *arguments)
    assert resumed.returncode == whole.returncode == 4
    assert json.loads(resumed.stdout) == json.loads(whole.stdout)


def test_names_that_are_not_utf_8_keep_their_order(folder, tmp_path):
    # Shown as text, the first name would come after the second.
    first, second = folder.path / os.fsdecode(b"\x80.json.gz"), folder.path / "é.json.gz"
    source = folder.put([record(1)])
    source.rename(second)
    os.mkfifo(first)
    progress = tmp_path / "scan.progress"
    arguments = [folder.path, "--resume", progress, "--format", "json", "--jobs", 2]
    assert interrupted(arguments, started(progress))[0] == 130
    first.unlink()
    folder.put([record(2)]).rename(first)
    assert len(json.loads(run("scan", *arguments).stdout)["findings"]) == 2


def test_an_archive_counts_whole_or_not_at_all(folder, tmp_path):
    with tarfile.open(tmp_path / "logs.tar", "w") as archive:
        archive.add(folder.put([record(1)], name="One"), "One.json.gz")
        archive.add(folder.put([record(2)], name="Two"), "Two.json.gz")
    place = tmp_path / "in"
    place.mkdir()
    (tmp_path / "logs.tar").rename(place / "a.tar")
    os.mkfifo(place / "b.json.gz")
    progress = tmp_path / "scan.progress"
    arguments = [place, "--resume", progress, "--format", "json"]
    assert interrupted(arguments, started(progress))[0] == 130
    (place / "b.json.gz").unlink()
    result = json.loads(run("scan", *arguments).stdout)
    assert len(result["findings"]) == 2 and result["summary"]["duplicates"] == 0


@pytest.mark.parametrize(("content", "message"), [(b"{", "is not a file of --resume"), (b"\xff", "is not a file of --resume")])
def test_a_file_of_something_else_is_refused_and_kept(folder, tmp_path, content, message):
    folder.put([record(1)])
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    done = run("scan", folder.path, "--resume", file)
    assert done.returncode == 3 and message in done.stderr and file.read_bytes() == content


def test_a_file_of_another_scan_is_refused_and_kept(folder, tmp_path):
    held(folder, "Block")
    progress = tmp_path / "scan.progress"
    assert interrupted([folder.path, "--resume", progress], started(progress))[0] == 130
    before = progress.read_bytes()
    done = run("scan", folder.path, "--resume", progress, "--minimum-level", "low")
    assert done.returncode == 3 and "is of another scan" in done.stderr and progress.read_bytes() == before


def test_a_place_that_can_not_be_written_shows_before_the_work(folder, tmp_path):
    folder.put([record(1)])
    done = run("scan", folder.path, "--resume", tmp_path / "missing/scan.progress")
    assert done.returncode == 3 and "can't be written" in done.stderr


def test_an_output_that_fails_loses_no_work(folder, tmp_path):
    file = folder.put([record(1)])
    progress = tmp_path / "scan.progress"
    arguments = ["scan", folder.path, "--resume", progress, "--format", "jsonl"]
    done = run(*arguments, "-o", "/dev/full", "--force")
    assert done.returncode == 3 and progress.exists()
    file.write_bytes(b"not read")
    assert len(run(*arguments).stdout.splitlines()) == 1


def test_an_interrupted_scan_of_s3_goes_on_where_it_was(s3, environment, tmp_path, folder):
    for number in range(3_000):
        folder.put([record(number)] if number % 10 == 0 else [], name=f"File{number:04}")
    (folder.path / "readme.txt").write_text("no")
    upload(s3, folder)
    progress = tmp_path / "scan.progress"
    arguments = [f"s3://{BUCKET}/", "--resume", progress, "--format", "json"]
    for files in (300, 1_200):
        status, diagnostics = interrupted(arguments, until_done(progress, files), environment)
        assert status == 130, diagnostics
    done = run("scan", *arguments, env=environment)
    result = json.loads(done.stdout)
    assert done.returncode == 0 and len(result["findings"]) == 300
    summary = result["summary"]
    assert (summary["files_read"], summary["files_skipped"], summary["duplicates"]) == (3_000, {"not a log file by its name": 1}, 0)


def test_what_storage_did_not_give_is_tried_again_and_only_that(s3, environment, tmp_path, folder):
    for number in range(30):
        folder.put([record(number)], name=f"File{number:04}")
    upload(s3, folder)
    denied = {f"File{number:04}" for number in (0, 7, 29)}
    progress, output = tmp_path / "scan.progress", tmp_path / "out.json"
    with failing_proxy(environment["AWS_ENDPOINT_URL"], denied) as address:
        arguments = [f"s3://{BUCKET}/", "--resume", progress, "--format", "json", "-o", output]
        failing = {**environment, "AWS_ENDPOINT_URL": address}
        for _ in range(2):
            done = run("scan", *arguments, "--force", env=failing)
            assert done.returncode == 4 and "repeat the command" in done.stderr, done.stderr
            summary = json.loads(output.read_text())["summary"]
            assert (summary["findings"], summary["files_read"], summary["files_failed"], len(summary["failures"])) == (27, 27, 3, 3)
    for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
        if not any(name in entry["Key"] for name in denied):
            s3.put_object(Bucket=BUCKET, Key=entry["Key"], Body=b"not read")
    done = run("scan", *arguments, "--force", env=environment)
    summary = json.loads(output.read_text())["summary"]
    assert done.returncode == 0 and (summary["findings"], summary["files_read"], summary["files_failed"], summary["duplicates"]) == (30, 30, 0, 0)
    assert not progress.exists()


def test_a_local_file_that_may_not_be_read_is_tried_again(folder, tmp_path):
    folder.put([record(1)], name="Aaaa")
    missing = folder.path / "Bbbb.json.gz"
    missing.symlink_to(tmp_path / "later.json.gz")
    progress = tmp_path / "scan.progress"
    arguments = [folder.path, "--resume", progress, "--format", "json"]
    assert run("scan", *arguments).returncode == 4 and progress.exists()
    folder.put([record(2)]).rename(tmp_path / "later.json.gz")
    done = run("scan", *arguments)
    assert done.returncode == 0 and len(json.loads(done.stdout)["findings"]) == 2 and not progress.exists()


def test_a_damaged_member_of_an_archive_ends_no_scan(folder, tmp_path):
    with tarfile.open(tmp_path / "logs.tar", "w") as archive:
        archive.add(folder.put([], name="Bad", body=b"\x1f\x8b"), "Bad.json.gz")
        archive.add(folder.put([record(1)], name="Good"), "Good.json.gz")
    done = run("scan", tmp_path / "logs.tar", "--resume", tmp_path / "scan.progress", "--format", "jsonl")
    assert done.returncode == 4 and len(done.stdout.splitlines()) == 1 and not (tmp_path / "scan.progress").exists()


def test_an_age_means_the_same_in_each_run(folder, tmp_path):
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    time_of = lambda seconds: (now - datetime.timedelta(hours=1) + datetime.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    day = f"{now:%Y%m%d}"
    folder.put([record(1, time=time_of(3))], day=day, name="Aaaa")
    block = folder.put([], day=day, name="Bbbb")
    block.unlink()
    os.mkfifo(block)
    progress = tmp_path / "scan.progress"
    arguments = [folder.path, "--since", "1h", "--resume", progress, "--format", "json", "--jobs", 2]
    assert interrupted(arguments, started(progress))[0] == 130
    time.sleep(4)
    block.unlink()
    folder.put([record(2, time=time_of(3))], day=day, name="Bbbb")
    assert len(json.loads(run("scan", *arguments).stdout)["findings"]) == 2


@contextlib.contextmanager
def failing_proxy(address, denied):
    """An S3 that breaks off the bodies of some objects, and else is that of an address. Yields its own address."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            headers = {name: value for name, value in self.headers.items() if name.lower() in ("authorization", "x-amz-date")}
            answer = urllib.request.urlopen(urllib.request.Request(address + self.path, headers=headers))
            body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if any(name in self.path.partition("?")[0] for name in denied):
                self.wfile.write(body[:20])
                self.close_connection = True
                return
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_listing_that_fails_is_not_taken_for_an_end(s3, environment, tmp_path, folder):
    folder.put([record(1)])
    upload(s3, folder)
    progress = tmp_path / "scan.progress"
    done = run("scan", "s3://no-such-bucket/AWSLogs/", "--resume", progress, env=environment)
    assert done.returncode == 4 and "repeat the command to go on" in done.stderr and progress.exists()
