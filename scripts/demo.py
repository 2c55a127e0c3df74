"""Runs billing-watch on this machine: moto as S3, SNS and SQS, and the function under cargo lambda.

`demo.py` runs it once and prints the alerts as a subscriber receives them. `demo.py --watch` keeps it running, and
`demo.py --invoke FILE` sends it an event. Everything listens on free loopback ports. Everything ends with this program,
even if it is killed.
"""

import argparse
import atexit
import contextlib
import gzip
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import boto3

from local_aws import free_port, moto
from supervisor import run_supervised, supervised

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "examples/logs"
STATE = ROOT / "target/watch.json"
BUCKET = "example-trail-logs"
# A log file whose name does not tell its account, Region and date belongs to these.
ACCOUNT, REGION, DATE = "111122223333", "us-east-1", "2026/03/02"
FUNCTION = "billing-watch-function"
# cargo lambda waits without end for a function that cannot start.
ANSWER_SECONDS = 60
START_FAILURE = "the function could not start"
# The function's variable of each topic, and who reads its messages.
TOPICS = {"ALERT_TOPIC_ARN": "people, by mail", "CHAT_TOPIC_ARN": "chat", "FINDING_TOPIC_ARN": "machines, in OCSF"}


def forget_real_aws():
    """Removes what the shell says about a real AWS, which neither boto3 nor the function may reach."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name in ("LEDGER_BUCKET", "LOG_READER_ROLE_ARN"):
            del os.environ[name]
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        os.environ[name] = os.devnull


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def log_files():
    """Returns the files of examples/logs with the keys that they get in S3."""
    return [(path, log_key(path)) for path in sorted(LOGS.iterdir()) if path.name.endswith((".json", ".json.gz"))]


def log_key(path):
    """Returns the key under which CloudTrail would deliver the file, made from its name."""
    name = path.name.removesuffix(".gz") + ".gz"
    match = re.match(r"(\d{12})_CloudTrail_([a-z0-9-]+)_(\d{4})(\d\d)(\d\d)T", name)
    account, region, *date = match.groups() if match else (ACCOUNT, REGION, DATE)
    return f"AWSLogs/o-exampleorg1/{account}/CloudTrail/{region}/{'/'.join(date)}/{name}"


def fill_aws(endpoint):
    """Creates a bucket with log files, a topic for each audience, and a queue that is subscribed to all. Returns `(topics, sqs, queue)`."""
    keys = {"endpoint_url": endpoint, "region_name": "us-east-1",
            "aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    s3, sns, sqs = (boto3.client(name, **keys) for name in ("s3", "sns", "sqs"))
    s3.create_bucket(Bucket=BUCKET)
    for path, key in log_files():
        body = path.read_bytes()
        s3.put_object(Bucket=BUCKET, Key=key, Body=body if path.suffix == ".gz" else gzip.compress(body))
    topics = {variable: sns.create_topic(Name=variable)["TopicArn"] for variable in TOPICS}
    queue = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for topic in topics.values():
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return topics, sqs, queue


@contextlib.contextmanager
def function(endpoint, topics, log):
    """Runs the function under `cargo lambda watch` and yields the port that accepts invocations."""
    print("building the function (the first time takes a few minutes) …", flush=True)
    # Building it first makes the first invocation fast.
    if run_supervised(["cargo", "build", "--quiet", "--locked", "--bin", FUNCTION], cwd=ROOT) != 0:
        sys.exit("the build failed; see its output above")
    port = free_port()
    # The default of EVENT_SOURCES is the template's. An operator's shell may set another.
    environment = {"EVENT_SOURCES": "billing-family", **os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1",
                   "AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", **topics}
    command = ["cargo", "lambda", "watch", "--bin", FUNCTION, "--ignore-changes", "--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    with supervised(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as child:
        for _ in range(600):
            if is_listening(port) or child.poll() is not None:
                break
            time.sleep(0.1)
        if not is_listening(port):
            sys.exit(f"cargo lambda watch did not start; see {getattr(log, 'name', 'its output above')}")
        yield port


def invoke(port, event, log_path=None):
    """Returns the exit code and the output of `cargo lambda invoke`. Ends early if the log says that the function could not start."""
    command = ["cargo", "lambda", "invoke", FUNCTION, "--data-file", str(event), "--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    deadline = time.monotonic() + ANSWER_SECONDS
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output = "".join(child.communicate(timeout=0.2))
                    return child.returncode, output.strip()
                if log_path and (failure := start_failure(log_path)):
                    return 1, failure
        finally:
            child.kill()
    return 1, f"no answer within {ANSWER_SECONDS} s; the function's log says why the function did not start"


def start_failure(log_path):
    """Returns why the function could not start, or nothing if its log does not say so."""
    for line in log_path.read_text(errors="replace").splitlines():
        if START_FAILURE in line:
            with contextlib.suppress(ValueError, KeyError):
                return f"{START_FAILURE}: {json.loads(line)['error']}"
            return line
    return None


def receive(sqs, queue):
    """Returns the messages in the queue, by the variable of their topic, and deletes them."""
    received = {variable: [] for variable in TOPICS}
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            envelope = json.loads(message["Body"])
            received[envelope["TopicArn"].rsplit(":", 1)[-1]].append(envelope)
    return received


def print_alerts(received):
    """Prints the messages for each audience."""
    for variable, envelopes in received.items():
        for envelope in envelopes:
            attributes = ", ".join(f"{name}={value['Value']}" for name, value in sorted(envelope["MessageAttributes"].items()))
            text = envelope["Message"] if variable == "ALERT_TOPIC_ARN" else json.dumps(json.loads(envelope["Message"]), indent=2, ensure_ascii=False)
            print(f"\n{'─' * 100}\nFor {TOPICS[variable]}. Subject: {envelope['Subject']}\nAttributes: {attributes}\n\n{text}", flush=True)


def demo(endpoint):
    topics, sqs, queue = fill_aws(endpoint)
    (ROOT / "target").mkdir(exist_ok=True)
    log_path = ROOT / "target/demo.log"
    counts = dict.fromkeys(TOPICS, 0)
    with log_path.open("w") as log, function(endpoint, topics, log) as port:
        for path, key in log_files():
            event = json.loads((ROOT / "events/s3-put.json").read_text())
            event["Records"][0]["s3"]["object"]["key"] = key
            event_path = ROOT / "target/demo-event.json"
            event_path.write_text(json.dumps(event))
            print(f"invoking the function for {path.name}", flush=True)
            code, answer = invoke(port, event_path, log_path)
            if code:
                sys.exit(f"the invocation failed: {answer}\nthe function's log is {log_path}")
            print(answer)
            received = receive(sqs, queue)
            # One message for chat and one for machines are enough to see what they look like.
            print_alerts({variable: envelopes if variable == "ALERT_TOPIC_ARN" else envelopes[: max(0, 1 - counts[variable])] for variable, envelopes in received.items()})
            for variable, envelopes in received.items():
                counts[variable] += len(envelopes)
    alerts, chat, findings = counts.values()
    print(f"\n{'─' * 100}\n{alerts} alerts arrived, with {chat} messages for chat and {findings} findings for machines, of which one each is shown")
    print(f"the function's log is {log_path.relative_to(ROOT)}")
    if not alerts:
        sys.exit("no alert arrived")


def running_watch():
    """Returns the port of a running `make watch`, or nothing."""
    port = json.loads(STATE.read_text())["port"] if STATE.exists() else None
    return port if port and is_listening(port) else None


def watch(endpoint):
    if running_watch():
        sys.exit("`make watch` is already running in another terminal")
    topics, sqs, queue = fill_aws(endpoint)
    with function(endpoint, topics, None) as port:
        STATE.write_text(json.dumps({"port": port}))
        atexit.register(lambda: STATE.unlink(missing_ok=True))
        for _, key in log_files():
            print(f"uploaded s3://{BUCKET}/{key}")
        print("ready; in another terminal, run: make invoke EVENT=events/s3-put.json. Alerts appear here. Ctrl-C ends it.", flush=True)
        while True:
            print_alerts(receive(sqs, queue))
            time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description="Runs billing-watch on this machine.")
    parser.add_argument("--watch", action="store_true", help="keep the function running")
    parser.add_argument("--invoke", metavar="FILE", help="send an event to a running --watch")
    arguments = parser.parse_args()
    forget_real_aws()
    if arguments.invoke:
        port = running_watch()
        if not port:
            sys.exit("no function is running: run `make watch` in another terminal first")
        event = pathlib.Path(arguments.invoke).resolve()
        if not event.exists():
            sys.exit(f"there is no file {arguments.invoke}; the samples are in events/")
        code, answer = invoke(port, event)
        print(answer)
        if code:
            print("the function's log is in the terminal of `make watch`")
        sys.exit(code)
    # These end the program by an exception, which closes moto and the function.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with moto() as endpoint:
            watch(endpoint) if arguments.watch else demo(endpoint)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
