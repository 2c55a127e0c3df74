"""One running function beside the peer that invokes it and answers for S3 and SNS.

The peer is benches/peer, a Rust program. It answers faster than any function asks.
"""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from paths import CERTIFICATES, FILES, PEER

BUCKET = "measured-logs"
TOPIC = "arn:aws:sns:us-east-1:999988887777:measured"
KEY = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_%s.json.gz"
STOPPED = signal.SIGSTOP, signal.SIGCONT
PERIOD_SECONDS = 0.02  # Lambda's CFS period


def object_event(name):
    """Returns one record of an S3 notification about the file NAME, or NAME~NUMBER, of target/bench/files."""
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-03-02T16:50:58.000Z",
            "eventName": "ObjectCreated:Put", "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": BUCKET, "arn": f"arn:aws:s3:::{BUCKET}"},
                                                     "object": {"key": KEY % name, "size": 1500}}}


def notification(name):
    """Returns the event of one file, as S3 sends it."""
    return {"Records": [object_event(name)]}


def batch(names):
    """Returns the event of an SQS batch with one message for each file."""
    return {"Records": [{"messageId": f"00000000-0000-4000-8000-{number:012d}", "receiptHandle": "handle", "eventSource": "aws:sqs",
                         "eventSourceARN": "arn:aws:sqs:us-east-1:999988887777:measured", "awsRegion": "us-east-1",
                         "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {},
                         "body": json.dumps(notification(name))} for number, name in enumerate(names)]}


class Function:
    """A function's process, and the peer's.

    `command` starts the function. `cores` bounds its share of one core. `latency_ms` delays every answer of S3 and SNS,
    `runtime_ms` every answer of the Runtime API.
    """

    def __init__(self, command, variables=None, latency_ms=0, runtime_ms=0, tls=False, cores=None):
        self.peer = subprocess.Popen([PEER, FILES, CERTIFICATES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = json.loads(self.peer.stdout.readline())
        self.ask({"do": "latency", "microseconds": latency_ms * 1000, "runtime_microseconds": runtime_ms * 1000})
        self.quota = Quota(cores) if cores else None
        environment = {
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{ports['https']}" if tls else f"http://127.0.0.1:{ports['http']}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{ports['runtime']}",
            "AWS_LAMBDA_FUNCTION_NAME": "measured", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            # Each SDK has its own variable for the authorities that it trusts.
            **({"SSL_CERT_FILE": str(CERTIFICATES / "ca.pem"), "AWS_CA_BUNDLE": str(CERTIFICATES / "ca.pem")} if tls else {}),
            "ALERT_TOPIC_ARN": TOPIC, "PATH": "/usr/bin:/bin",
            **(variables or {}),
        }
        command = [str(word) for word in command]
        if self.quota:
            command = self.quota.wrap(command)
        self.started_ns = time.time_ns()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if self.quota:
            self.quota.watch(self.process.pid)
        # A function that fails says why on standard error.
        self.errors = []
        self.reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self.reader.start()
        asked_ns = self.ask({"do": "wait"})["asked"]
        if asked_ns is None:
            raise SystemExit(f"{command} requested no event: {''.join(self.errors)}")
        self.start_ms = (asked_ns - self.started_ns) / 1e6

    def ask(self, command):
        """Gives the peer a command and returns its answer."""
        self.peer.stdin.write(json.dumps(command) + "\n")
        self.peer.stdin.flush()
        return json.loads(self.peer.stdout.readline())

    def invoke(self, event, count=1):
        """Sends an event `count` times, one after the other. Returns the peer's answer with `replies` and `requests`."""
        answer = self.ask({"do": "invoke", "event": event, "count": count})
        if len(answer["replies"]) < count:
            raise SystemExit(f"the function did not reply in time: {''.join(self.errors)}")
        for kind, body in answer["replies"]:
            reply = json.loads(body)
            if kind != "response" or (isinstance(reply, dict) and reply.get("batchItemFailures")):
                raise SystemExit(f"the function failed: {kind} {body[:2000]} {''.join(self.errors)}")
        return answer

    def cpu_seconds(self):
        """Returns the user and system time so far, of threads that have ended as well."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def peak_bytes(self):
        """Returns the highest resident size so far."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("/proc/PID/status has no VmHWM")

    def stop(self):
        """Ends both processes. Returns what the function wrote to standard error."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
        self.peer.stdin.close()
        self.peer.stdout.close()
        self.peer.wait()
        if self.quota:
            self.quota.end()
        return "".join(self.errors)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Quota:
    """A bound on the CPU time of a process, as Lambda sets it: a share of each period, with the kernel's CFS bandwidth control.

    Without a writable cgroup a thread of this process stops the function when it has used its share, until the period ends.
    """

    def __init__(self, cores):
        self.cores = cores
        self.group = make_group(cores)
        self.ended = threading.Event()

    def wrap(self, command):
        """Returns the command that joins the group before it starts the function."""
        if not self.group:
            return command
        return ["/bin/sh", "-c", f'echo $$ > {self.group}/cgroup.procs; exec "$@"', "sh", *command]

    def watch(self, pid):
        """Starts the thread that bounds a process without a group."""
        if not self.group:
            self.thread = threading.Thread(target=self.throttle, args=(pid,), daemon=True)
            self.thread.start()

    def throttle(self, pid):
        stop, go_on = STOPPED
        clock = ~pid << 3 | 2
        try:
            while not self.ended.is_set():
                end, allowed = time.monotonic() + PERIOD_SECONDS, time.clock_gettime(clock) + self.cores * PERIOD_SECONDS
                while time.monotonic() < end:
                    if time.clock_gettime(clock) >= allowed:
                        os.kill(pid, stop)
                        time.sleep(max(0, end - time.monotonic()))
                        os.kill(pid, go_on)
                        break
                    time.sleep(0.0005)
        except OSError:
            pass  # The process has ended.

    def end(self):
        """Removes the group, or ends the thread."""
        self.ended.set()
        if self.group:
            self.group.rmdir()


def make_group(cores):
    """Returns a new cgroup with the quota, or `None` where this process may not make one."""
    name = f"billing-watch-bench-{os.getpid()}-{threading.get_ident()}"
    period, quota = int(PERIOD_SECONDS * 1e6), int(cores * PERIOD_SECONDS * 1e6)
    for root, settings in (("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota}),
                           ("/sys/fs/cgroup", {"cpu.max": f"{quota} {period}"})):
        group = pathlib.Path(root, name)
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for file, value in settings.items():
                group.joinpath(file).write_text(str(value))
            return group
        except OSError:
            group.rmdir()
    return None


def quota_kind():
    """Says how CPU is bounded on this machine."""
    group = make_group(0.5)
    if group:
        group.rmdir()
        return "CFS quota of a cgroup, period 20 ms"
    return "SIGSTOP and SIGCONT in a period of 20 ms"
