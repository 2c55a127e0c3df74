"""A stack of one trigger after an operator has set it up: deployed, with its bucket connected and a queue subscribed to its alerts."""

import subprocess

from stack import ACCOUNT, LOG_KEY, MANAGEMENT_ACCOUNT, ORGANIZATION, ROOT, Stack, log_file, until


def connect(localstack, bucket, *options, account=ACCOUNT):
    """Runs connect.py against LocalStack. Returns what it prints."""
    done = subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "scripts/connect.py", bucket, "--yes", *options],
        env=localstack.environment(account),
        capture_output=True, text=True,
    )
    return done.stdout + done.stderr


def notifying_topic(localstack, bucket):
    """Creates a topic and lets the bucket notify it of every object, as an account may have it before billing-watch is deployed."""
    topic = localstack.client("sns").create_topic(Name=f"{bucket}-topic")["TopicArn"]
    localstack.client("s3").put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]},
    )
    return topic


class Deployed:
    """A stack of one trigger, its bucket, and a queue that receives its alerts."""

    def __init__(self, localstack, trigger, name=None, **more):
        self.localstack, self.trigger, name = localstack, trigger, name or trigger
        self.bucket = f"logs-{name}"
        self.s3 = localstack.client("s3")
        parameters = {
            "Trigger": trigger, "LogBucketName": self.bucket, "SelfTestSchedule": "rate(7 days)",
            "AlertEmail": "alerts@example.com", "AlarmEmail": "alarms@example.com",
            # LocalStack gives a message the visibility timeout that the queue had when the wait for the batch began.
            "BatchingWindowSeconds": 0, **more,
        }
        if trigger == "new-organization-trail":
            parameters |= {"OrganizationId": ORGANIZATION, "ManagementAccountId": MANAGEMENT_ACCOUNT}
        if not trigger.startswith("new-"):
            self.s3.create_bucket(Bucket=self.bucket)
        if trigger.startswith("topic"):
            self.topic = notifying_topic(localstack, self.bucket)
            parameters["NotificationTopicArn"] = self.topic
        self.stack = Stack(localstack, f"watch-{name}", parameters)
        if url := self.stack.resources.get("DeliveryQueue"):
            # Makes a failed message visible again after a second, and not after eleven minutes.
            self.stack.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1"})
        if "NotificationTarget" in self.stack.outputs:
            assert connect(localstack, self.bucket, "--stack", self.stack.name).endswith(": connected\n")
        self.alerts = self.stack.subscribe_queue(self.stack.outputs["AlertTopicArn"])
        self.failed = self.stack.outputs["FailedQueueUrl"]

    def put(self, name, *records):
        key = LOG_KEY % name
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=log_file(*records))
        return key

    def next_alert(self):
        [alert] = until("an alert", lambda: self.stack.receive(self.alerts))
        return alert

    def delete_topic(self, output="AlertTopicArn"):
        """Deletes a topic. Returns a function that creates it again with the same attributes, and returns the URL of its subscribed queue."""
        sns, arn = self.stack.client("sns"), self.stack.outputs[output]
        attributes = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
        sns.delete_topic(TopicArn=arn)

        def restore():
            same = {name: attributes[name] for name in ("Policy", "KmsMasterKeyId", "DisplayName") if name in attributes}
            sns.create_topic(Name=arn.rsplit(":", 1)[1], Attributes=same)
            return self.stack.subscribe_queue(arn)

        return restore

    def metrics(self, name):
        """Returns the sum of a metric over all invocations of the function."""
        return sum(line[name] for line in self.localstack.metric_lines(self.stack.name))
