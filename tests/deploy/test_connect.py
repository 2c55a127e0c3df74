"""`make connect`: what a bucket's notifications are before and after, on moto."""

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
        """`(exit code, what was printed)`."""
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
    code, told = bucket.connect()
    assert code == 0 and '+      "QueueArn": "%s"' % QUEUE in told, told
    [entry] = bucket.notifications()["QueueConfigurations"]
    assert entry["Events"] == ["s3:ObjectCreated:*"] and entry["QueueArn"] == QUEUE
    assert {rule["Name"].lower(): rule["Value"] for rule in entry["Filter"]["Key"]["FilterRules"]} == {"prefix": "AWSLogs/", "suffix": ".json.gz"}
    before = bucket.notifications()
    code, told = bucket.connect()
    assert code == 0 and "nothing to do" in told and bucket.notifications() == before


def test_what_was_there_stays_there(bucket):
    before = bucket.notify(
        QueueConfigurations=[queue(OTHER_QUEUE, "siem", prefix="AWSLogs/111122223333/Config/")],
        TopicConfigurations=[{"Id": "removals", "TopicArn": TOPIC, "Events": ["s3:ObjectRemoved:*"]}],
    )
    # Config's prefix lies within AWSLogs/, and S3 tells only one of an object.
    code, told = bucket.connect()
    assert code == 1 and "siem" in told and "Nothing was changed" in told and bucket.notifications() == before
    code, told = bucket.connect("--prefix", "AWSLogs/111122223333/CloudTrail/")
    assert code == 0, told
    after = bucket.notifications()
    assert [entry["Id"] for entry in after["QueueConfigurations"]] == ["siem", "billing-watch"]
    assert after["TopicConfigurations"] == before["TopicConfigurations"]
    # And away again.
    code, told = bucket.connect("--remove")
    assert code == 0 and bucket.notifications() == before, told


def test_nothing_is_written_unless_somebody_agrees(bucket):
    code, told = bucket.connect(answer=())
    assert code == 1 and "+      " in told and "YES=1" in told
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
def test_an_overlap_is_explained_and_changes_nothing(bucket, existing, overlaps):
    before = bucket.notify(QueueConfigurations=[existing])
    code, told = bucket.connect()
    assert (code == 1) == overlaps, told
    if overlaps:
        assert OTHER_QUEUE in told and "`x`" in told and "Trigger=eventbridge" in told
        assert bucket.notifications() == before


def test_a_topic_that_is_notified_already_is_the_way_to_go(bucket):
    bucket.notify(TopicConfigurations=[{"Id": "trail", "TopicArn": TOPIC, "Events": ["s3:ObjectCreated:*"]}])
    code, told = bucket.connect()
    assert code == 1 and f"Trigger=topic (or topic-queue) and NotificationTopicArn={TOPIC}" in told


def test_a_wider_notification_of_the_same_target_is_enough(bucket):
    before = bucket.notify(QueueConfigurations=[queue(QUEUE, "by-hand")])
    code, told = bucket.connect()
    assert code == 0 and "nothing to do" in told and bucket.notifications() == before


def test_a_stack_that_changed_its_trigger_replaces_its_own_notification(bucket):
    bucket.connect()
    code, told = bucket.connect(target=FUNCTION)
    assert code == 0, told
    assert "QueueConfigurations" not in bucket.notifications()
    [entry] = bucket.notifications()["LambdaFunctionConfigurations"]
    assert entry["LambdaFunctionArn"] == FUNCTION
    # To EventBridge: S3 would refuse to write a target that is gone with the old trigger.
    code, told = bucket.connect(target="eventbridge")
    assert "LambdaFunctionConfigurations" not in bucket.notifications(), told


@pytest.mark.parametrize("stranger", [
    OTHER_QUEUE, QUEUE.replace("123456789012", "111122223333"), QUEUE.replace("deliveries", "other"),
])
@pytest.mark.parametrize("options", [(), ("--remove",)])
def test_a_stranger_s_notification_of_the_same_name_is_left_alone(bucket, stranger, options):
    before = bucket.notify(QueueConfigurations=[queue(stranger, "billing-watch", prefix="elsewhere/")])
    code, told = bucket.connect(*options)
    assert code == 1 and stranger in told and "nothing was changed" in told and bucket.notifications() == before


def test_eventbridge_is_turned_on_beside_anything(localstack):
    """On LocalStack: moto forgets EventBridge where there is another notification."""
    bucket = Bucket(localstack.address, "beside-anything")
    siem = OTHER_QUEUE.replace("123456789012", "000000000000")
    before = bucket.notify(QueueConfigurations=[queue(siem, "siem", prefix="config/")])
    code, told = bucket.connect(target="eventbridge")
    assert code == 0 and bucket.notifications() == {**before, "EventBridgeConfiguration": {}}, told
    assert "nothing to do" in bucket.connect(target="eventbridge")[1]
    code, told = bucket.connect("--remove", target="eventbridge")
    assert code == 1 and "others may listen" in told
    own = QUEUE.replace("123456789012", "000000000000")
    code, told = bucket.connect(target=own)
    assert code == 0 and "EventBridgeConfiguration" in bucket.notifications(), told
    # A stack that went from its queue to EventBridge takes its old notification with it, now or on leaving.
    for options in ((), ("--remove",)):
        bucket.notify(**before, EventBridgeConfiguration={})
        assert bucket.connect(target=own)[0] == 0
        code, told = bucket.connect(*options, target="eventbridge")
        assert code == 0 and bucket.notifications() == {**before, "EventBridgeConfiguration": {}}, told


@pytest.mark.parametrize("target, remedy", [("queue", "NotificationTarget"), ("arn:aws:s3:::bucket", "NotificationTarget")])
def test_a_wrong_target_is_named_with_its_remedy(bucket, target, remedy):
    code, told = bucket.connect(target=target)
    assert code == 1 and target in told and remedy in told


def test_errors_of_aws_come_with_a_remedy_and_without_a_traceback(bucket):
    code, told = bucket.connect(bucket="no-such-bucket-anywhere")
    assert code == 1 and "NoSuchBucket" in told and "the name alone" in told and "Traceback" not in told
    code, told = bucket.connect(bucket="s3://logs/prefix")
    assert code == 1 and "the name alone" in told and "Traceback" not in told
    done = subprocess.run(["make", "-s", "connect"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "BUCKET is missing: make connect BUCKET=NAME" in done.stderr
    done = subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "scripts/connect.py", bucket.name, "--stack", "no-such-stack"],
        env=environment(bucket.address, "test"), capture_output=True, text=True,
    )
    assert done.returncode == 1 and "no-such-stack can't be read" in done.stderr and "TARGET=" in done.stderr
