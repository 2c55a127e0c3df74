"""`make verify`: a healthy stack passes, and each line fails when its subject is broken."""

import http.server
import json
import subprocess
import sys
import threading
import time
import types
import urllib.parse

import boto3
import pytest

import verify
from deployed import connect
from stack import REGION, ROOT, Stack, log_file
from test_permissions import allows, role_policy

NAME = "watch-verify"


class Iam(http.server.ThreadingHTTPServer):
    """Answers SimulatePrincipalPolicy by the role's policy in LocalStack, evaluated by moto's engine. LocalStack's own answer ignores wildcards."""

    def __init__(self):
        self.stack, self.is_denied = None, False
        iam = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                assert form["Action"] == "SimulatePrincipalPolicy"
                status, body = iam.answer(form["ActionNames.member.1"], form["ResourceArns.member.1"])
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.address = "http://{}:{}".format(*self.server_address)

    def answer(self, action, resource):
        if self.is_denied:
            return 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        decision = "allowed" if allows(role_policy(self.stack), action, resource) else "implicitDeny"
        return 200, f"""<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults><member>
            <EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName><EvalDecision>{decision}</EvalDecision>
            </member></EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"""


IAM = Iam()


def lines(stack, *, expected_code):
    """Runs verify.py on a stack. Returns the state of each line: `{"queues": "ok"}`."""
    done = subprocess.run(
        # This LocalStack does not support the CloudWatch protocol of newer versions of boto3.
        [ROOT / ".venv-localstack/bin/python", ROOT / "scripts/verify.py", stack.name],
        env={**stack.localstack.environment(), "AWS_ENDPOINT_URL_IAM": IAM.address}, capture_output=True, text=True,
    )
    assert done.returncode == expected_code, done.stdout + done.stderr
    assert all(len(line) <= 100 for line in done.stdout.splitlines()), done.stdout
    states = {}
    for line in done.stdout.splitlines()[1:-1]:
        if not line.startswith(" "):
            state, name = line.split()[:2]
            states[name] = state
    assert len(states) == len(verify.CHECKS)
    # Each failure has its remedy.
    assert done.stdout.count("Remedy:") == list(states.values()).count("FAILED")
    return states


def failing(stack):
    return {name for name, state in lines(stack, expected_code=1).items() if state == "FAILED"}


def put_metrics(stack, **values):
    dimensions = [{"Name": "FunctionName", "Value": stack.name}]
    data = [{"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in values.items()]
    stack.cloudwatch("put_metric_data", Namespace="BillingWatch", MetricData=data)


def put_log_file(stack, bucket):
    day = time.strftime("%Y/%m/%d", time.gmtime())
    key = f"AWSLogs/111122223333/CloudTrail/us-east-1/{day}/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz"
    stack.client("s3").put_object(Bucket=bucket, Key=key, Body=log_file())
    return key


@pytest.fixture(scope="module")
def watch(localstack):
    localstack.client("s3").create_bucket(Bucket="logs-verify")
    stack = Stack(localstack, NAME, {
        "Trigger": "bucket-queue", "LogBucketName": "logs-verify", "AlertEmail": "soc@example.com", "AlarmEmail": "ops@example.com",
        "CanarySchedule": "rate(1 hour)",
    })
    IAM.stack = stack
    assert connect(localstack, "logs-verify", "--stack", NAME).endswith(": connected\n")
    put_log_file(stack, "logs-verify")
    # LocalStack makes no metrics of the function's log.
    assert failing(stack) == {"scanned", "canary"}
    put_metrics(stack, Scanned=3, HandlingDelay=120, CanaryMissing=0, CanaryDelay=300)
    return stack


def test_a_healthy_stack_passes(watch):
    states = lines(watch, expected_code=0)
    assert {name for name, state in states.items() if state == "skipped"} == {"trail"}
    assert set(states.values()) == {"ok", "skipped"}


def no_notification(watch):
    connect(watch.localstack, "logs-verify", "--stack", NAME, "--remove")
    return lambda: connect(watch.localstack, "logs-verify", "--stack", NAME)


def no_mapping(watch):
    update = lambda enabled: watch.client("lambda").update_event_source_mapping(UUID=watch.resources["Deliveries"], Enabled=enabled)
    update(False)
    return lambda: update(True)


def no_permission(watch):
    iam, name = watch.client("iam"), watch.outputs["FunctionRoleArn"].rsplit("/", 1)[1]
    policy = role_policy(watch)
    put = lambda statements: iam.put_role_policy(
        RoleName=name, PolicyName="billing-watch", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    put([statement for statement in policy["Statement"] if statement["Sid"] != "ReadLogFiles"])
    return lambda: put(policy["Statement"])


def no_key(watch):
    kms, key = watch.client("kms"), watch.resources["AlarmKey"]
    kms.disable_key(KeyId=key)
    return lambda: kms.enable_key(KeyId=key)


def nobody_subscribed(output, address):
    def unsubscribe(watch):
        sns, topic = watch.client("sns"), watch.outputs[output]
        for subscription in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
            sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        return lambda: sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=address)

    return unsubscribe


def a_failed_event(watch):
    sqs, url = watch.client("sqs"), watch.outputs["FailedQueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    return lambda: sqs.purge_queue(QueueUrl=url)


def a_raised_alarm(watch):
    set_state = lambda state: watch.cloudwatch("set_alarm_state", AlarmName=f"{NAME}-failed-objects", StateValue=state, StateReason="test")
    set_state("ALARM")
    return lambda: set_state("OK")


def a_mute_alarm(watch):
    watch.cloudwatch("disable_alarm_actions", AlarmNames=[f"{NAME}-silence"])
    return lambda: watch.cloudwatch("enable_alarm_actions", AlarmNames=[f"{NAME}-silence"])


def no_log_file(watch):
    s3 = watch.client("s3")
    for entry in s3.list_objects_v2(Bucket="logs-verify")["Contents"]:
        s3.delete_object(Bucket="logs-verify", Key=entry["Key"])
    return lambda: put_log_file(watch, "logs-verify")


@pytest.mark.parametrize("breakage, failed", [
    (no_notification, {"notification"}),
    (no_mapping, {"mapping"}),
    (no_permission, {"permissions"}),
    (no_key, {"keys"}),
    # Without subscribers, the self-test fails as well.
    (nobody_subscribed("AlertTopicArn", "soc@example.com"), {"alert-subscriptions", "self-test"}),
    (nobody_subscribed("AlarmTopicArn", "ops@example.com"), {"alarm-subscriptions"}),
    (a_failed_event, {"queues"}),
    (a_raised_alarm, {"alarms"}),
    (a_mute_alarm, {"alarms"}),
    (no_log_file, {"log-file"}),
])
def test_a_line_fails_if_its_subject_is_broken(watch, breakage, failed):
    repair = breakage(watch)
    try:
        assert failing(watch) == failed
    finally:
        repair()


def test_a_check_that_the_credentials_do_not_allow_is_unknown(watch):
    IAM.is_denied = True
    try:
        states = lines(watch, expected_code=2)
    finally:
        IAM.is_denied = False
    assert {name for name, state in states.items() if state == "unknown"} == {"permissions"}


def test_late_log_files_and_a_missing_canary_fail(watch):
    put_metrics(watch, HandlingDelay=901, CanaryMissing=1)
    assert failing(watch) == {"delay", "canary"}


@pytest.mark.parametrize("trigger", ["eventbridge", "topic", "topic-queue"])
def test_the_notification_of_each_trigger_is_checked(deployed, trigger):
    stack = deployed(trigger).stack
    IAM.stack = stack
    assert lines(stack, expected_code=1)["notification"] == "ok"
    sns, s3, events = (stack.client(service) for service in ("sns", "s3", "events"))
    if trigger == "eventbridge":
        rule = stack.resources["LogFileRule"]
        events.disable_rule(Name=rule)
        assert "notification" in failing(stack)
        events.enable_rule(Name=rule)
        configuration = s3.get_bucket_notification_configuration(Bucket="logs-eventbridge")
        s3.put_bucket_notification_configuration(Bucket="logs-eventbridge", NotificationConfiguration={})
        assert "notification" in failing(stack)
        configuration.pop("ResponseMetadata")
        s3.put_bucket_notification_configuration(Bucket="logs-eventbridge", NotificationConfiguration=configuration)
    else:
        own = stack.resources["LogFileSubscription"]
        attributes = sns.get_subscription_attributes(SubscriptionArn=own)["Attributes"]
        sns.unsubscribe(SubscriptionArn=own)
        assert "notification" in failing(stack)
        kept = {name: attributes[name] for name in ("FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy") if name in attributes}
        sns.subscribe(TopicArn=attributes["TopicArn"], Protocol=attributes["Protocol"], Endpoint=attributes["Endpoint"], Attributes=kept)
    assert lines(stack, expected_code=1)["notification"] == "ok"


def test_a_trail_that_does_not_log_fails(moto):
    """On moto, because LocalStack has no CloudTrail."""
    client = lambda service: boto3.client(service, endpoint_url=moto, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")
    client("s3").create_bucket(Bucket="logs-trail")
    client("cloudtrail").create_trail(Name="watch", S3BucketName="logs-trail")
    deployed = types.SimpleNamespace(client=client, resources={"Trail": "watch"})
    with pytest.raises(verify.Failed, match="does not log"):
        verify.trail(deployed)
    client("cloudtrail").start_logging(Name="watch")
    assert verify.trail(deployed) == "it logs and delivers"


@pytest.mark.parametrize("status, is_good", [("UPDATE_COMPLETE", True), ("UPDATE_ROLLBACK_COMPLETE", False), ("CREATE_FAILED", False), ("DELETE_COMPLETE", False)])
def test_a_stack_that_was_not_deployed_fails(status, is_good):
    deployed = types.SimpleNamespace(status=status)
    if is_good:
        assert verify.stack(deployed) == status
    else:
        with pytest.raises(verify.Failed, match=status):
            verify.stack(deployed)


@pytest.mark.parametrize("state, update, is_good", [("Active", "Successful", True), ("Failed", "Successful", False), ("Active", "Failed", False)])
def test_a_function_that_cannot_run_fails(state, update, is_good):
    """No peer has a function in these states."""
    answer = {"State": state, "LastUpdateStatus": update, "MemorySize": 256, "Architectures": ["x86_64"]}
    service = types.SimpleNamespace(get_function_configuration=lambda **_: answer)
    deployed = types.SimpleNamespace(function="watch", client=lambda _: service)
    if is_good:
        assert verify.function(deployed) == "Active, 256 MB, x86_64"
    else:
        with pytest.raises(verify.Failed):
            verify.function(deployed)


def test_text_of_aws_is_printed_without_control_characters(capsys):
    verify.report("FAILED", "queues", "a\x1b[31mred\nline")
    assert capsys.readouterr().out == "FAILED   queues                a?[31mred?line\n"


def test_a_stack_that_is_not_there_is_named(localstack):
    done = subprocess.run([sys.executable, ROOT / "scripts/verify.py", "no-such-stack"], env=localstack.environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "stack no-such-stack can't be read" in done.stderr
