"""The whole path on this machine: moto as S3, SNS and SQS, and the function under cargo lambda.

`demo.py` runs it once and prints the alerts as a subscriber gets them. `demo.py --watch` keeps it
running; `demo.py --invoke FILE` sends it an event. Everything listens on free loopback ports, and
everything ends with this program, interrupted or not.
"""

import argparse
import atexit
import gzip
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import boto3

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "examples/logs"
STATE = ROOT / "target/watch.json"
BUCKET = "example-trail-logs"
PREFIX = "AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/"
FUNCTION = "billing-watch-function"
# A function that can't start never answers.
ANSWER_SECONDS = 60
children = []


def start(command, **options):
    """Starts a child in a group of its own, to be ended with its own children."""
    child = subprocess.Popen(command, start_new_session=True, **options)
    children.append(child)
    return child


def stop_children():
    for child in reversed(children):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_aws():
    """moto with a bucket of log files, a topic, and a queue that subscribes to it."""
    moto = start([sys.executable, str(ROOT / "scripts/moto_peer.py")],
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    endpoint = moto.stdout.readline().strip()
    if not endpoint:
        sys.exit("moto did not start; see the lines above")
    keys = {"endpoint_url": endpoint, "region_name": "us-east-1",
            "aws_access_key_id": "demo", "aws_secret_access_key": "demo"}
    s3, sns, sqs = (boto3.client(name, **keys) for name in ("s3", "sns", "sqs"))
    s3.create_bucket(Bucket=BUCKET)
    for path in sorted(LOGS.glob("*.json")):
        body = gzip.compress(json.dumps(json.loads(path.read_text()), separators=(",", ":")).encode())
        s3.put_object(Bucket=BUCKET, Key=PREFIX + path.name + ".gz", Body=body)
    topic = sns.create_topic(Name="billing-alerts")["TopicArn"]
    queue = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return endpoint, topic, sqs, queue


def start_function(endpoint, topic, log):
    """The function under `cargo lambda watch`, built before, so that the first answer is quick."""
    print("building the function (the first time takes a few minutes) …", flush=True)
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--bin", FUNCTION], cwd=ROOT, check=True)
    port = free_port()
    environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1",
                   "AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "ALERT_TOPIC_ARN": topic}
    child = start(["cargo", "lambda", "watch", "--bin", FUNCTION, "--ignore-changes",
                   "--invoke-address", "127.0.0.1", "--invoke-port", str(port)],
                  cwd=ROOT, env=environment, stdout=log, stderr=log)
    for _ in range(600):
        if is_listening(port):
            return port
        if child.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"cargo lambda watch did not start; see {getattr(log, 'name', 'the lines above')}")


def invoke(port, event):
    """The function's answer, as `cargo lambda invoke` prints it."""
    try:
        done = subprocess.run(["cargo", "lambda", "invoke", FUNCTION, "--data-file", str(event),
                               "--invoke-address", "127.0.0.1", "--invoke-port", str(port)],
                              cwd=ROOT, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {ANSWER_SECONDS} s: the function's log tells why it could not start"
    return done.returncode, (done.stdout + done.stderr).strip()


def print_alerts(sqs, queue):
    count = 0
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            alert = json.loads(message["Body"])
            attributes = ", ".join(f"{name}={value['Value']}" for name, value in sorted(alert["MessageAttributes"].items()))
            print(f"\n{'─' * 100}\nSubject: {alert['Subject']}\nAttributes: {attributes}\n\n{alert['Message']}", flush=True)
            count += 1
    return count


def demo():
    endpoint, topic, sqs, queue = start_aws()
    (ROOT / "target").mkdir(exist_ok=True)
    log_path = ROOT / "target/demo.log"
    with log_path.open("w") as log:
        port = start_function(endpoint, topic, log)
        alerts = 0
        for path in sorted(LOGS.glob("*.json")):
            event = json.loads((ROOT / "events/s3-put.json").read_text())
            event["Records"][0]["s3"]["object"]["key"] = PREFIX + path.name + ".gz"
            event_path = ROOT / "target/demo-event.json"
            event_path.write_text(json.dumps(event))
            print(f"invoking for {path.name}.gz", flush=True)
            code, answer = invoke(port, event_path)
            if code:
                sys.exit(f"the invocation failed: {answer}\nthe function's log is {log_path}")
            print(answer)
            alerts += print_alerts(sqs, queue)
    print(f"\n{'─' * 100}\n{alerts} alerts arrived; the function's log is {log_path.relative_to(ROOT)}")
    if not alerts:
        sys.exit("no alert arrived")


def running_watch():
    """The port of a `make watch` that runs, or nothing."""
    port = json.loads(STATE.read_text())["port"] if STATE.exists() else None
    return port if port and is_listening(port) else None


def watch():
    if running_watch():
        sys.exit("`make watch` is running already in another terminal")
    endpoint, topic, sqs, queue = start_aws()
    port = start_function(endpoint, topic, None)
    STATE.write_text(json.dumps({"port": port}))
    atexit.register(lambda: STATE.unlink(missing_ok=True))
    print("ready; in another terminal: make invoke EVENT=events/s3-put.json. Alerts appear here; Ctrl-C ends it.", flush=True)
    while True:
        print_alerts(sqs, queue)
        time.sleep(1)


def main():
    arguments = argparse.ArgumentParser(description="billing-watch on this machine")
    arguments.add_argument("--watch", action="store_true", help="keep it running")
    arguments.add_argument("--invoke", metavar="FILE", help="send an event to a running --watch")
    arguments = arguments.parse_args()
    if arguments.invoke:
        port = running_watch()
        if not port:
            sys.exit("nothing to invoke: run `make watch` in another terminal first")
        event = pathlib.Path(arguments.invoke).resolve()
        if not event.exists():
            sys.exit(f"no file {arguments.invoke}; the samples are in events/")
        code, answer = invoke(port, event)
        print(answer)
        sys.exit(code)
    atexit.register(stop_children)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        watch() if arguments.watch else demo()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
