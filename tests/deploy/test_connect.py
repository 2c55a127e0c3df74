"""connect.py: a bucket's notifications before and after, on moto."""

import re
import subprocess

import boto3
import pytest

from stack import REGION, ROOT, environment

QUEUE = "arn:aws:sqs:us-east-1:123456789012:billing-watch-deliveries"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:billing-watch"
OTHER_QUEUE = "arn:aws:sqs:us-east-1:123456789012:siem"
TOPIC = "arn:aws:sns:us-east-1:123456789012:trail"


class Bucket:
    def __init__(self, address, name):
        self.address, self.name = address, name
        options = {"endpoint_url": address, "region_name": REGION, "aws_access_key_id": "test", "aws_secret_access_key": "test"}
        self.s3 = boto3.client("s3", **options)
        self.s3.create_bucket(Bucket=name)
        for arn in (QUEUE, OTHER_QUEUE):
            boto3.client("sqs", **options).create_queue(QueueName=arn.rsplit(":", 1)[1])
        boto3.client("sns", **options).create_topic(Name="trail")

    def notify(self, **configuration):
        self.s3.put_bucket_notification_configuration(Bucket=self.name, NotificationConfiguration=configuration)
        return self.notifications()

    def notifications(self):
        answer = self.s3.get_bucket_notification_configuration(Bucket=self.name)
        answer.pop("ResponseMetadata")
        return answer

    def connect(self, *options, target=QUEUE, answer=("--yes",), bucket=None):
        """Runs connect.py. Returns `(exit code, output)`."""
        done = subprocess.run(
            [ROOT / ".venv/bin/python", ROOT / "scripts/connect.py", bucket or self.name, "--target", target, *answer, *options],
            env=environment(self.address, "test"), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def bucket(moto, request):
    return Bucket(moto, re.sub("[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-"))


def queue(arn, identifier, events=("s3:ObjectCreated:*",), prefix=None, suffix=None):
    rules = [{"Name": name, "Value": value} for name, value in (("prefix", prefix), ("suffix", suffix)) if value]
    return {"Id": identifier, "QueueArn": arn, "Events": list(events), **({"Filter": {"Key": {"FilterRules": rules}}} if rules else {})}


def test_an_empty_bucket_gets_one_notification_and_only_once(bucket):
    code, output = bucket.connect()
    assert code == 0 and '+      "QueueArn": "%s"' % QUEUE in output, output
    [entry] = bucket.notifications()["QueueConfigurations"]
    assert entry["Events"] == ["s3:ObjectCreated:*"] and entry["QueueArn"] == QUEUE
    assert {rule["Name"].lower(): rule["Value"] for rule in entry["Filter"]["Key"]["FilterRules"]} == {"prefix": "AWSLogs/", "suffix": ".json.gz"}
    before = bucket.notifications()
    code, output = bucket.connect()
    assert code == 0 and "nothing to do" in output and bucket.notifications() == before


def test_other_notifications_are_kept(bucket):
    before = bucket.notify(
        QueueConfigurations=[queue(OTHER_QUEUE, "siem", prefix="AWSLogs/111122223333/Config/")],
        TopicConfigurations=[{"Id": "removals", "TopicArn": TOPIC, "Events": ["s3:ObjectRemoved:*"]}],
    )
    # The prefix of AWS Config lies under AWSLogs/, and S3 allows only one notification per object and event.
    code, output = bucket.connect()
    assert code == 1 and "siem" in output and "Nothing was changed" in output and bucket.notifications() == before
    code, output = bucket.connect("--prefix", "AWSLogs/111122223333/CloudTrail/")
    assert code == 0, output
    after = bucket.notifications()
    assert [entry["Id"] for entry in after["QueueConfigurations"]] == ["siem", "billing-watch"]
    assert after["TopicConfigurations"] == before["TopicConfigurations"]
    code, output = bucket.connect("--remove")
    assert code == 0 and bucket.notifications() == before, output


def test_nothing_is_written_without_confirmation(bucket):
    code, output = bucket.connect(answer=())
    assert code == 1 and "+      " in output and "--yes" in output
    assert "QueueConfigurations" not in bucket.notifications()


@pytest.mark.parametrize("existing, overlaps", [
    (queue(OTHER_QUEUE, "x"), True),
    (queue(OTHER_QUEUE, "x", events=["s3:ObjectCreated:Put"]), True),
    (queue(OTHER_QUEUE, "x", events=["s3:ObjectRemoved:*"]), False),
    (queue(OTHER_QUEUE, "x", prefix="AWSLogs/o-1/"), True),
    (queue(OTHER_QUEUE, "x", prefix="A"), True),
    (queue(OTHER_QUEUE, "x", prefix="config/"), False),
    (queue(OTHER_QUEUE, "x", suffix=".gz"), True),
    (queue(OTHER_QUEUE, "x", suffix=".csv"), False),
])
def test_an_overlap_is_explained_and_nothing_is_changed(bucket, existing, overlaps):
    before = bucket.notify(QueueConfigurations=[existing])
    code, output = bucket.connect()
    assert (code == 1) == overlaps, output
    if overlaps:
        assert OTHER_QUEUE in output and "`x`" in output and "Trigger=eventbridge" in output
        assert bucket.notifications() == before


def test_a_topic_that_the_bucket_already_notifies_is_proposed_as_the_trigger(bucket):
    bucket.notify(TopicConfigurations=[{"Id": "trail", "TopicArn": TOPIC, "Events": ["s3:ObjectCreated:*"]}])
    code, output = bucket.connect()
    assert code == 1 and f"Trigger=topic (or topic-queue) and NotificationTopicArn={TOPIC}" in output


def test_a_wider_notification_of_the_same_target_is_sufficient(bucket):
    before = bucket.notify(QueueConfigurations=[queue(QUEUE, "by-hand")])
    code, output = bucket.connect()
    assert code == 0 and "nothing to do" in output and bucket.notifications() == before


def test_a_stack_that_changed_its_trigger_replaces_its_own_notification(bucket):
    bucket.connect()
    code, output = bucket.connect(target=FUNCTION)
    assert code == 0, output
    assert "QueueConfigurations" not in bucket.notifications()
    [entry] = bucket.notifications()["LambdaFunctionConfigurations"]
    assert entry["LambdaFunctionArn"] == FUNCTION
    # Connecting to EventBridge also removes the old notification, because S3 rejects a configuration with a deleted target.
    code, output = bucket.connect(target="eventbridge")
    assert "LambdaFunctionConfigurations" not in bucket.notifications(), output


@pytest.mark.parametrize("foreign", [
    OTHER_QUEUE, QUEUE.replace("123456789012", "111122223333"), QUEUE.replace("deliveries", "other"),
])
@pytest.mark.parametrize("options", [(), ("--remove",)])
def test_a_foreign_notification_of_the_same_name_is_kept(bucket, foreign, options):
    before = bucket.notify(QueueConfigurations=[queue(foreign, "billing-watch", prefix="elsewhere/")])
    code, output = bucket.connect(*options)
    assert code == 1 and foreign in output and "nothing was changed" in output and bucket.notifications() == before


def test_eventbridge_can_be_enabled_beside_any_notification(localstack):
    """On LocalStack, because moto drops the EventBridge configuration if the bucket has another notification."""
    bucket = Bucket(localstack.address, "beside-anything")
    siem = OTHER_QUEUE.replace("123456789012", "000000000000")
    before = bucket.notify(QueueConfigurations=[queue(siem, "siem", prefix="config/")])
    code, output = bucket.connect(target="eventbridge")
    assert code == 0 and bucket.notifications() == {**before, "EventBridgeConfiguration": {}}, output
    assert "nothing to do" in bucket.connect(target="eventbridge")[1]
    code, output = bucket.connect("--remove", target="eventbridge")
    assert code == 1 and "others may use its events" in output
    own = QUEUE.replace("123456789012", "000000000000")
    code, output = bucket.connect(target=own)
    assert code == 0 and "EventBridgeConfiguration" in bucket.notifications(), output
    # A stack whose trigger changes from a queue to EventBridge removes its old notification when it connects or disconnects.
    for options in ((), ("--remove",)):
        bucket.notify(**before, EventBridgeConfiguration={})
        assert bucket.connect(target=own)[0] == 0
        code, output = bucket.connect(*options, target="eventbridge")
        assert code == 0 and bucket.notifications() == {**before, "EventBridgeConfiguration": {}}, output


@pytest.mark.parametrize("target, remedy", [("queue", "NotificationTarget"), ("arn:aws:s3:::bucket", "NotificationTarget")])
def test_an_invalid_target_is_reported_with_its_remedy(bucket, target, remedy):
    code, output = bucket.connect(target=target)
    assert code == 1 and target in output and remedy in output


def test_aws_errors_are_reported_with_a_remedy_and_without_a_traceback(bucket):
    code, output = bucket.connect(bucket="no-such-bucket-anywhere")
    assert code == 1 and "NoSuchBucket" in output and "the name only" in output and "Traceback" not in output
    code, output = bucket.connect(bucket="s3://logs/prefix")
    assert code == 1 and "the name only" in output and "Traceback" not in output
    done = subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "scripts/connect.py", bucket.name, "--stack", "no-such-stack"],
        env=environment(bucket.address, "test"), capture_output=True, text=True,
    )
    assert done.returncode == 1 and "no-such-stack can't be read" in done.stderr and "--target" in done.stderr
