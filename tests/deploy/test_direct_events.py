"""The fast path: events from EventBridge, of this account and of others, and the log files that confirm them."""

import json
import time

import boto3
import pytest

from alarms import Metrics, parts, state
from deployed import connect
from stack import ACCOUNT, LOG_KEY, ORGANIZATION, REGION, Stack, closure, log_file, transformed, until
from test_permissions import allows, role_policy

MEMBER = "111122223333"
BUCKET = "logs-direct"
NOW = 1_800_000_000


class Direct:
    """A stack with the fast path and all topics, and queues that are subscribed to them."""

    def __init__(self, localstack):
        self.localstack = localstack
        self.s3 = localstack.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        names = {MEMBER: "Payments", ACCOUNT: "Audit"}
        self.s3.create_bucket(Bucket="names-direct")
        self.s3.put_object(Bucket="names-direct", Key="accounts.json", Body=json.dumps(names))
        self.stack = Stack(localstack, "watch-direct", {
            "Trigger": "bucket-queue", "LogBucketName": BUCKET, "DirectEvents": "true", "OrganizationId": ORGANIZATION, "ChatTopic": "true",
            "FindingTopic": "true", "FindingMinimumLevel": "low", "AccountNamesUri": "s3://names-direct/accounts.json", "BatchingWindowSeconds": 0,
        })
        assert connect(localstack, BUCKET, "--stack", "watch-direct").endswith(": connected\n")
        # LocalStack gives a message the visibility timeout that the queue had when the wait for the batch began.
        self.stack.client("sqs").set_queue_attributes(QueueUrl=self.stack.resources["DirectQueue"], Attributes={"VisibilityTimeout": "1"})
        outputs = self.stack.outputs
        self.queues = {name: self.stack.subscribe_queue(outputs[name]) for name in ("AlertTopicArn", "ChatTopicArn", "FindingTopicArn")}

    def put_event(self, record, account=ACCOUNT):
        """Puts a record on the default bus of an account, as CloudTrail does."""
        entry = {"Source": "aws.billingconsole", "DetailType": "AWS Console Action via CloudTrail", "Detail": json.dumps(record)}
        answer = self.localstack.client("events", account).put_events(Entries=[entry])
        assert answer["FailedEntryCount"] == 0, answer

    def put_log_file(self, name, *records):
        self.s3.put_object(Bucket=BUCKET, Key=LOG_KEY % name, Body=log_file(*records))

    def alerts(self, count):
        """Returns the next messages of each topic."""
        received = {name: [] for name in self.queues}

        def all_there():
            for name, url in self.queues.items():
                received[name] += self.stack.receive(url)
            return all(len(messages) >= count for messages in received.values())

        until("messages on each topic", all_there)
        assert all(len(messages) == count for messages in received.values()), received
        return received

    def total(self, name):
        return sum(line.get(name, 0) for line in self.localstack.metric_lines("watch-direct"))


@pytest.fixture(scope="module")
def direct(localstack):
    return Direct(localstack)


def own_closure(event_id, account=ACCOUNT):
    record = closure(event_id)
    record["recipientAccountId"] = record["userIdentity"]["accountId"] = account
    record["userIdentity"]["arn"] = f"arn:aws:iam::{account}:root"
    return record


def test_an_event_alerts_on_every_topic_and_its_log_file_does_not_alert_again(direct):
    record = own_closure("direct-1")
    direct.put_event(record)
    received = direct.alerts(1)
    mail = received["AlertTopicArn"][0]
    assert mail["Subject"] == f"[CRITICAL] CloseAccount in {ACCOUNT} by root"
    assert "Came by:  EventBridge" in mail["Message"] and f"Account:  {ACCOUNT} (Audit)" in mail["Message"]
    assert json.loads(received["ChatTopicArn"][0]["Message"])["source"] == "custom"
    assert json.loads(received["FindingTopicArn"][0]["Message"])["class_uid"] == 2004

    # The log file comes minutes later, and by two trails.
    direct.put_log_file("Directab12345678", record)
    direct.put_log_file("Directab12345679", record)
    until("both log files", lambda: direct.total("Duplicate") == 2)
    assert (direct.total("CameDirectly"), direct.total("NotDirectly"), direct.total("Published")) == (1, 0, 1)
    assert all(direct.stack.receive(url) == [] for url in direct.queues.values())

    # A record that only a log file brings alerts, too, and counts as one that the fast path missed.
    direct.put_log_file("Directab12345680", own_closure("direct-2"))
    assert "Log file:" in direct.alerts(1)["AlertTopicArn"][0]["Message"]
    assert (direct.total("CameDirectly"), direct.total("NotDirectly")) == (1, 1)
    delays = [line for line in direct.localstack.metric_lines("watch-direct") if "DirectAlertDelay" in line]
    assert len(delays) == 1 and 300 <= delays[0]["DirectAlertDelay"][0] < 420


def test_only_findings_of_its_level_reach_a_topic(direct):
    record = {**own_closure("direct-low"), "eventName": "RedeemPromoCode"}
    direct.put_event(record)
    finding, = until("the finding", lambda: direct.stack.receive(direct.queues["FindingTopicArn"]))
    assert json.loads(finding["Message"])["severity"] == "Low"
    assert direct.stack.receive(direct.queues["AlertTopicArn"]) == [] and direct.stack.receive(direct.queues["ChatTopicArn"]) == []


def test_a_forged_event_is_told_apart_from_the_true_record(direct):
    # Somebody who can send to the queue uses the id of a true event, to silence it.
    forged = {**own_closure("direct-3"), "eventName": "GetAccountInformation", "sourceIPAddress": "198.51.100.1"}
    harmless = {**own_closure("direct-3"), "eventName": "SetContactAddress"}
    for record in (forged, harmless):
        direct.put_event(record)
    assert "SetContactAddress" in direct.alerts(1)["AlertTopicArn"][0]["Subject"]
    direct.put_log_file("Directab12345681", own_closure("direct-3"))
    received = direct.alerts(1)
    mail = received["AlertTopicArn"][0]
    assert mail["Subject"].startswith("[CRITICAL] CloseAccount")
    assert "a direct event with this event id said something else" in " ".join(mail["Message"].split())
    assert json.loads(received["FindingTopicArn"][0]["Message"])["unmapped"]["differs_from_other_record"] is True


def test_an_event_of_another_account_than_its_record_is_refused_and_parked(direct):
    sqs = direct.stack.client("sqs")
    url = direct.stack.resources["DirectQueue"]
    event = {
        "version": "0", "id": "1", "detail-type": "AWS Console Action via CloudTrail", "source": "aws.billingconsole", "account": "444455556666",
        "time": "2026-03-02T16:44:04Z", "region": REGION, "resources": [], "detail": own_closure("direct-4"),
    }
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    failed = direct.stack.outputs["FailedQueueUrl"]
    until("the failure queue", lambda: direct.stack.waiting(failed) == 1)
    assert direct.total("DirectFailed") >= 5
    assert all(direct.stack.receive(queue) == [] for queue in direct.queues.values())
    sqs.purge_queue(QueueUrl=failed)


def test_events_of_member_accounts_arrive_through_one_role(direct, localstack):
    target = direct.stack.outputs["DirectTarget"]
    assert target == f"arn:aws:sqs:{REGION}:{ACCOUNT}:watch-direct-direct-events"
    Stack(localstack, "member", {"TargetArn": target}, "template-member-account.yaml", MEMBER)
    iam = localstack.client("iam", MEMBER)
    policy = iam.get_role_policy(RoleName="billing-watch-direct-events", PolicyName="billing-watch")["PolicyDocument"]
    assert allows(policy, "sqs:SendMessage", target, MEMBER) and not allows(policy, "sqs:SendMessage", target + "x", MEMBER)
    assert not allows(policy, "sqs:ReceiveMessage", target, MEMBER)
    [target_of_rule] = localstack.client("events", MEMBER).list_targets_by_rule(Rule="member-direct-events")["Targets"]
    assert target_of_rule["Arn"] == target and target_of_rule["RoleArn"] == f"arn:aws:iam::{MEMBER}:role/billing-watch-direct-events"
    direct.put_event(own_closure("direct-5", MEMBER), MEMBER)
    mail = direct.alerts(1)["AlertTopicArn"][0]["Message"]
    assert f"Account:  {MEMBER} (Payments)" in mail


def test_outside_of_us_east_1_member_accounts_send_to_an_event_bus(direct, localstack):
    resources = transformed()["Resources"]
    assert resources["MemberBus"]["Condition"] == resources["MemberRule"]["Condition"] == "MembersFillBus"
    # LocalStack deploys into one Region here. The bus, its rule and the role of the member account are made by hand as the templates say.
    rule = resources["MemberRule"]["Properties"]
    far = boto3.client("events", endpoint_url=localstack.address, region_name="eu-central-1", aws_access_key_id=ACCOUNT, aws_secret_access_key="test")
    sqs = boto3.client("sqs", endpoint_url=localstack.address, region_name="eu-central-1", aws_access_key_id=ACCOUNT, aws_secret_access_key="test")
    bus = far.create_event_bus(Name="watch-far-member-accounts")["EventBusArn"]
    url = sqs.create_queue(QueueName="watch-far-direct-events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    far.put_rule(Name="members", EventBusName="watch-far-member-accounts", EventPattern=json.dumps(rule["EventPattern"]))
    far.put_targets(Rule="members", EventBusName="watch-far-member-accounts", Targets=[{"Id": "1", "Arn": arn}])
    other = "123456789012"
    Stack(localstack, "far-member", {"TargetArn": bus}, "template-member-account.yaml", other)
    policy = localstack.client("iam", other).get_role_policy(RoleName="billing-watch-direct-events", PolicyName="billing-watch")["PolicyDocument"]
    assert allows(policy, "events:PutEvents", bus, other) and not allows(policy, "events:PutEvents", bus + "x", other)
    direct.put_event(own_closure("direct-6", other), other)
    message, = until("the event on the other Region's queue", lambda: sqs.receive_message(QueueUrl=url).get("Messages"))
    event = json.loads(message["Body"])
    assert (event["account"], event["detail"]["eventID"]) == (other, "direct-6")


def test_the_function_may_do_what_the_fast_path_needs_and_no_more(direct):
    policy = role_policy(direct.stack)
    for name in ("ChatTopicArn", "FindingTopicArn"):
        assert allows(policy, "sns:Publish", direct.stack.outputs[name])
    assert allows(policy, "sqs:ReceiveMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:watch-direct-direct-events")
    assert allows(policy, "s3:GetObject", "arn:aws:s3:::names-direct/accounts.json") and not allows(policy, "s3:GetObject", "arn:aws:s3:::names-direct/other")


def test_an_event_that_no_log_file_confirms_within_a_day_raises_an_alarm(direct):
    alarms = direct.stack.alarms()
    reply, failed = direct.stack.invoke({"action": "unconfirmed"})
    # The events of this test are minutes old.
    assert not failed and reply["UnconfirmedDirectEvents"] == 0
    # An entry of a day ago, as the function wrote it then.
    ledger = direct.stack.outputs["LedgerBucketName"]
    came_at = time.time() - 30 * 3600
    day = time.strftime("%Y-%m-%d", time.gmtime(came_at))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(came_at))
    for event_id, more in (("lost", {}), ("confirmed", {"log_file": f"s3://{BUCKET}/x"})):
        entry = {"published": [], "digest": "0", "direct_at": at, **more}
        for key in (f"2026/03/02/{event_id}.json", f"direct/{day}/2026/03/02/{event_id}.json"):
            direct.s3.put_object(Bucket=ledger, Key=key, Body=json.dumps(entry))
    reply, failed = direct.stack.invoke({"action": "unconfirmed"})
    assert not failed and (reply["UnconfirmedDirectEvents"], reply["Unconfirmed"]) == (1, ["2026/03/02/lost.json"])
    metrics = Metrics()
    assert state(alarms["unconfirmed-direct-events"], metrics, NOW) == "OK"
    metrics.put_line(direct.localstack.metric_lines("watch-direct")[-1], NOW - 60)
    assert state(alarms["unconfirmed-direct-events"], metrics, NOW) == "ALARM"


@pytest.mark.parametrize("alarm, namespace, metric, quiet, loud", [
    ("failed-direct-events", "BillingWatch", "DirectFailed", 0, 1),
    ("direct-events-late", "AWS/SQS", "ApproximateAgeOfOldestMessage", 900, 901),
    ("direct-rule-loses-events", "AWS/Events", "InvocationsFailedToBeSentToDlq", 0, 1),
    ("undelivered-chat", "AWS/SNS", "NumberOfNotificationsFailed", 0, 1),
    ("undelivered-findings", "AWS/SNS", "NumberOfNotificationsFailed", 0, 1),
])
def test_each_alarm_of_the_fast_path_and_of_the_topics_fires_at_its_threshold(direct, alarm, namespace, metric, quiet, loud):
    definition = direct.stack.alarms()[alarm]
    [described] = parts(definition)[0].values()
    assert (described["Namespace"], described["MetricName"]) == (namespace, metric)
    dimensions = {entry["Name"]: entry["Value"] for entry in described["Dimensions"]}
    for value, expected in ((quiet, "OK"), (loud, "ALARM")):
        metrics = Metrics()
        metrics.put(namespace, metric, dimensions, NOW - 60, value)
        assert state(definition, metrics, NOW) == expected, value
