"""Whom the function trusts when its endpoint speaks TLS."""

import gzip
import json
import ssl
import threading

import boto3
import pytest
import trustme
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from lambda_peer import Lambda
from stack import ACCOUNT, BINARY, LOG_KEY

BUCKET = "example-logs"
EVENT = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                      "s3": {"bucket": {"name": BUCKET}, "object": {"key": LOG_KEY % "tls"}}}]}
RECORD = {"eventSource": "s3.amazonaws.com", "eventName": "GetObject", "eventID": "a"}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def endpoint(authority):
    """The address of a moto behind TLS, with one log file. Amazon did not issue its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://127.0.0.1:{server.server_port}"
    with authority.cert_pem.tempfile() as trusted:
        s3 = boto3.client("s3", endpoint_url=address, verify=trusted, region_name="us-east-1",
                          aws_access_key_id="test", aws_secret_access_key="test")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key=EVENT["Records"][0]["s3"]["object"]["key"],
                      Body=gzip.compress(json.dumps({"Records": [RECORD]}).encode()))
    yield address
    server.shutdown()


def invoked(endpoint, variables, log):
    """Returns the reply to one invocation, and the messages that were logged."""
    topic = f"arn:aws:sns:us-east-1:{ACCOUNT}:alerts"
    with log.open("w") as output:
        function = Lambda(BINARY, {"AWS_ENDPOINT_URL": endpoint, "ALERT_TOPIC_ARN": topic, **variables}, timeout=20, log=output)
        reply = function.invoke(EVENT, timeout=60)
        function.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return *reply, [line.get("message") for line in lines]


def test_an_endpoint_that_only_the_system_trusts_is_used(endpoint, authority, tmp_path):
    trusted = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(trusted)
    kind, reply, messages = invoked(endpoint, {"SSL_CERT_FILE": str(trusted)}, tmp_path / "log")
    assert (kind, reply["Scanned"]) == ("response", 1)
    assert messages.count("the endpoint's certificate was not issued under Amazon's root certificates: the system's are trusted as well from now on") == 1


def test_an_endpoint_that_nobody_trusts_is_refused(endpoint, tmp_path):
    kind, reply, _ = invoked(endpoint, {}, tmp_path / "log")
    assert kind == "error"
    assert "UnknownIssuer" in reply["errorMessage"]
