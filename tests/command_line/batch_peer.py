"""S3 Batch Operations in a process: an HTTP proxy that answers for S3 Control by botocore's model of it, and runs jobs.

Requests are decoded and validated by botocore's own shapes. A job lists the bucket as its filter says, invokes a function
for each object as the service does, and writes the completion report.
"""

import contextlib
import csv
import datetime
import hashlib
import http.server
import io
import json
import threading
import urllib.parse
import uuid
import xml.etree.ElementTree as ET

import botocore.loaders
import botocore.model
from botocore.validate import validate_parameters

MODEL = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("s3control", "service-2"))
NAMESPACE = "{http://awss3control.amazonaws.com/doc/2018-08-20/}"
SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"


def name_of(shape, member):
    return shape.members[member].serialization.get("name", member)


def decoded(shape, element):
    """Returns what an XML element says, by its shape. A member that the shape lacks is an error."""
    text = element.text or ""
    match shape.type_name:
        case "structure":
            members = {name_of(shape, member): member for member in shape.members}
            names = [child.tag.removeprefix(NAMESPACE) for child in element]
            assert set(names) <= set(members), f"{shape.name} has no {set(names) - set(members)}"
            return {members[name]: decoded(shape.members[members[name]], child) for name, child in zip(names, element)}
        case "list":
            return [decoded(shape.member, child) for child in element]
        case "map":
            return {entry[0].text: entry[1].text for entry in element}
        case "boolean":
            return {"true": True, "false": False}[text]
        case "integer" | "long":
            return int(text)
        case "timestamp":
            return datetime.datetime.fromisoformat(text)
        case _:
            return text


def encoded(shape, name, value):
    """Returns a value as an XML element, by its shape."""
    element = ET.Element(name)
    match shape.type_name:
        case "structure":
            element.extend(encoded(shape.members[member], name_of(shape, member), value[member]) for member in value)
        case "list":
            element.extend(encoded(shape.member, shape.member.serialization.get("name", "member"), one) for one in value)
        case "map":
            for key, one in value.items():
                entry = ET.SubElement(element, "entry")
                ET.SubElement(entry, "key").text, ET.SubElement(entry, "value").text = key, one
        case "boolean":
            element.text = "true" if value else "false"
        case "timestamp":
            element.text = value.isoformat().replace("+00:00", "Z")
        case _:
            element.text = str(value)
    return element


class BatchPeer:
    """S3 Batch Operations with the objects of `s3`."""

    def __init__(self, s3):
        self.s3 = s3
        self.jobs = {}
        self.tokens = {}
        self.refusal = None

    def create(self, body, account):
        operation = MODEL.operation_model("CreateJob")
        order = decoded(operation.input_shape, ET.fromstring(body))
        order["AccountId"] = account
        validate_parameters(order, operation.input_shape)
        token = order["ClientRequestToken"]
        if token not in self.tokens:
            job = self.tokens[token] = str(uuid.uuid4())
            self.jobs[job] = {"order": order, "status": "Suspended", "results": [], "keys": self.matching(order)}
        return {"JobId": self.tokens[token]}

    def matching(self, order):
        """Returns the keys that a job's manifest generator finds."""
        generator = order["ManifestGenerator"]["S3JobManifestGenerator"]
        rules, names = generator["Filter"], generator["Filter"]["KeyNameConstraint"]
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=generator["SourceBucket"].rpartition(":")[2])
        return [
            entry["Key"] for page in pages for entry in page.get("Contents", [])
            if any(entry["Key"].startswith(prefix) for prefix in names.get("MatchAnyPrefix", [""]))
            and any(part in entry["Key"] for part in names["MatchAnySubstring"])
            and any(entry["Key"].endswith(end) for end in names["MatchAnySuffix"])
            and ("CreatedAfter" not in rules or entry["LastModified"] > rules["CreatedAfter"])
            and ("CreatedBefore" not in rules or entry["LastModified"] < rules["CreatedBefore"])
        ]

    def describe(self, job):
        state = self.jobs[job]
        order, results = state["order"], state["results"]
        failed = sum(row[3] == "failed" for row in results)
        return {"Job": {
            "JobId": job, "Status": state["status"], "Priority": order["Priority"], "ManifestGenerator": order["ManifestGenerator"],
            "CreationTime": datetime.datetime(2026, 3, 2, 17, tzinfo=datetime.UTC),
            "ProgressSummary": {
                "TotalNumberOfTasks": len(state["keys"]), "NumberOfTasksSucceeded": len(results) - failed, "NumberOfTasksFailed": failed,
                "Timers": {"ElapsedTimeInActiveSeconds": len(results)},
            },
            "FailureReasons": state.get("failures", []), "Report": order["Report"],
        }}

    def update(self, job, status):
        assert self.jobs[job]["status"] == "Suspended" and status == "Ready"
        self.jobs[job]["status"] = "Ready"
        return {"JobId": job, "Status": "Ready"}

    def run(self, job, function, most=None):
        """Runs a job that was confirmed; `most` says after how many tasks this returns."""
        state = self.jobs[job]
        assert state["status"] in ("Ready", "Active"), state["status"]
        order = state["order"]
        invoke = order["Operation"]["LambdaInvoke"]
        bucket = order["ManifestGenerator"]["S3JobManifestGenerator"]["SourceBucket"].rpartition(":")[2]
        state["status"] = "Active"
        for key in state["keys"][len(state["results"]):][:most]:
            for _ in range(3):
                kind, reply = function.invoke({
                    "invocationSchemaVersion": invoke["InvocationSchemaVersion"], "invocationId": "EXAMPLE", "job": {"id": job, "userArguments": invoke["UserArguments"]},
                    "tasks": [{"taskId": "task", "s3Key": urllib.parse.quote(key), "s3VersionId": None, "s3Bucket": bucket}],
                })
                assert kind == "response", reply
                [result] = reply["results"]
                assert (result["taskId"], reply["treatMissingKeysAs"]) == ("task", "PermanentFailure")
                if result["resultCode"] != "TemporaryFailure":
                    break
            succeeded = result["resultCode"] == "Succeeded"
            state["results"].append([
                bucket, urllib.parse.quote(key), "", "succeeded" if succeeded else "failed", "" if succeeded else "PermanentFailure", "200", result["resultString"],
            ])
        if len(state["results"]) == len(state["keys"]):
            state["status"] = "Complete"
            self.write_report(job)

    def write_report(self, job):
        state = self.jobs[job]
        report = state["order"]["Report"]
        assert report["ReportScope"] == "AllTasks" and report["Enabled"] and report["Format"] == "Report_CSV_20180820"
        bucket, folder = report["Bucket"].rpartition(":")[2], f"{report['Prefix']}/job-{job}"
        parts = []
        for status in ("succeeded", "failed"):
            text = io.StringIO()
            csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(row for row in state["results"] if row[3] == status)
            if text.getvalue():
                body = text.getvalue().encode()
                key = f"{folder}/results/{hashlib.sha1(body).hexdigest()}.csv"
                self.s3.put_object(Bucket=bucket, Key=key, Body=body)
                parts.append({"TaskExecutionStatus": status, "Bucket": bucket, "MD5Checksum": hashlib.md5(body).hexdigest(), "Key": key})
        manifest = {"Format": "Report_CSV_20180820", "ReportCreationDate": "2026-03-02T17:48:39.725Z", "Results": parts, "ReportSchema": SCHEMA}
        self.s3.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=json.dumps(manifest))

    def answer(self, method, url, body):
        """Returns status and XML of a request."""
        parsed = urllib.parse.urlsplit(url)
        account, path = parsed.hostname.split(".")[0], parsed.path.removeprefix("/v20180820/jobs").strip("/").split("/")
        if self.refusal:
            code, message = self.refusal
            return 403, f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()
        match method, path:
            case "POST", [""]:
                name, answer = "CreateJob", self.create(body, account)
            case "GET", [job] if job in self.jobs:
                name, answer = "DescribeJob", self.describe(job)
            case "POST", [job, "status"]:
                [status] = urllib.parse.parse_qs(parsed.query)["requestedJobStatus"]
                name, answer = "UpdateJobStatus", self.update(job, status)
            case _:
                return 404, b"<ErrorResponse><Error><Code>NoSuchJob</Code><Message>The specified job does not exist</Message></Error></ErrorResponse>"
        return 200, ET.tostring(encoded(MODEL.operation_model(name).output_shape, f"{name}Result", answer))


@contextlib.contextmanager
def serve(peer):
    """Serves a peer as an HTTP proxy. Yields the variables with which a program finds it."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = peer.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        # The SDK puts the account's id in front of the host's name, which only a proxy can resolve here.
        yield {"AWS_ENDPOINT_URL_S3_CONTROL": "http://s3-control.test", "HTTP_PROXY": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1"}
    finally:
        server.shutdown()
        server.server_close()
