"""Checks a deployed stack against what AWS says of it, and prints a checklist with a remedy for each failure.

Needs boto3 and the AWS CLI's credentials and Region. It changes nothing but for these: it sends a test alert, and it lets the
function scan the newest log file, whose records alert if they have not alerted before.

Ends with status 0 if nothing failed, 1 if a check failed, and 2 if none failed but some could not be made.
"""

import argparse
import datetime
import json
import sys
import textwrap

try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
except ModuleNotFoundError:
    sys.exit("this program needs boto3, the AWS SDK for Python: run `python3 -m pip install boto3`")

COLUMNS = 100
# Most of S3's names that are listed in search of the newest log file.
LISTED_KEYS = 1000
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "AuthorizationErrorException", "403"}
CHECKS = []


class Failed(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, problem, remedy):
        super().__init__(problem)
        self.remedy = remedy


class Skipped(Exception):
    """Why a check does not apply to this stack."""


def check(function):
    """Adds a function to the checks. It returns what it found, or raises `Failed` or `Skipped`. Its name is that of its line."""
    CHECKS.append(function)
    return function


class Deployed:
    """A stack: its parameters, outputs and resources, and clients for its account."""

    def __init__(self, name):
        self.name = name
        cloudformation = self.client("cloudformation")
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        self.status = stack["StackStatus"]
        self.parameters = {pair["ParameterKey"]: pair.get("ParameterValue", "") for pair in stack.get("Parameters", [])}
        self.outputs = {pair["OutputKey"]: pair["OutputValue"] for pair in stack.get("Outputs", [])}
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
        entries = [entry for page in pages for entry in page["StackResourceSummaries"]]
        self.resources = {entry["LogicalResourceId"]: entry["PhysicalResourceId"] for entry in entries if entry.get("PhysicalResourceId")}
        self.region, self.account = stack["StackId"].split(":")[3:5]

    def client(self, service, **options):
        return boto3.client(service, **options)

    @property
    def trigger(self):
        return self.parameters["Trigger"]

    @property
    def bucket(self):
        return self.parameters["LogBucketName"]

    @property
    def function(self):
        return self.outputs["FunctionName"]

    def metric(self, name, statistic, hours):
        """Returns a metric of the function over the last hours, or None if it has no value."""
        now = datetime.datetime.now(datetime.timezone.utc)
        answer = self.client("cloudwatch").get_metric_statistics(
            Namespace="BillingWatch", MetricName=name, Dimensions=[{"Name": "FunctionName", "Value": self.function}],
            # CloudWatch leaves EndTime itself out: a minute more takes in what has just been written.
            StartTime=now - datetime.timedelta(hours=hours), EndTime=now + datetime.timedelta(minutes=1), Period=hours * 3600,
            Statistics=[statistic],
        )
        values = [point[statistic] for point in answer["Datapoints"]]
        return {"Sum": sum, "Maximum": max}[statistic](values) if values else None

    def invoke(self, event):
        """Invokes the function. Returns `(reply, whether it is an error)`."""
        answer = self.client("lambda").invoke(FunctionName=self.function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read()), "FunctionError" in answer


@check
def stack(deployed):
    if not deployed.status.endswith("_COMPLETE") or "ROLLBACK" in deployed.status or "DELETE" in deployed.status:
        raise Failed(f"its status is {deployed.status}", "look at the stack's events in CloudFormation, and deploy again")
    return deployed.status


@check
def function(deployed):
    answer = deployed.client("lambda").get_function_configuration(FunctionName=deployed.function)
    state, update = answer.get("State", "Active"), answer.get("LastUpdateStatus", "Successful")
    if state not in ("Active", "Inactive") or update == "Failed":
        raise Failed(f"its state is {state}, its last update {update}: {answer.get('StateReason') or answer.get('LastUpdateStatusReason')}", "deploy again")
    return f"{state}, {answer['MemorySize']} MB, {answer['Architectures'][0]}"


@check
def notification(deployed):
    """Whether a new log file invokes the function."""
    trigger = deployed.trigger
    if trigger.startswith("topic"):
        return subscribed(deployed)
    configuration = deployed.client("s3").get_bucket_notification_configuration(Bucket=deployed.bucket)
    connect = f"python3 connect.py {deployed.bucket} --stack {deployed.name}"
    if trigger.startswith("eventbridge"):
        if "EventBridgeConfiguration" not in configuration:
            raise Failed("the bucket sends no events to EventBridge", connect)
        rule = deployed.client("events").describe_rule(Name=deployed.resources["LogFileRule"])
        if rule["State"] != "ENABLED":
            raise Failed(f"the rule {rule['Name']} is {rule['State']}", f"aws events enable-rule --name {rule['Name']}")
        return f"the bucket's events reach the rule {rule['Name']}"
    target = deployed.outputs.get("NotificationTarget") or function_arn(deployed)
    entries = configuration.get("LambdaFunctionConfigurations", []) + configuration.get("QueueConfigurations", [])
    for entry in entries:
        if target in (entry.get("LambdaFunctionArn"), entry.get("QueueArn")) and any(event.startswith("s3:ObjectCreated") for event in entry["Events"]):
            return f"the bucket notifies {target.split(':')[-1]}"
    remedy = connect if "NotificationTarget" in deployed.outputs else "deploy again: the stack owns this bucket"
    raise Failed(f"the bucket does not notify {target.split(':')[-1]}", remedy)


def function_arn(deployed):
    return deployed.client("lambda").get_function_configuration(FunctionName=deployed.function)["FunctionArn"]


def subscribed(deployed):
    topic = deployed.parameters["NotificationTopicArn"]
    endpoint = function_arn(deployed)
    if deployed.trigger == "topic-queue":
        url = deployed.resources["DeliveryQueue"]
        endpoint = deployed.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pages = deployed.client("sns", region_name=topic.split(":")[3]).get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    for subscription in (entry for page in pages for entry in page["Subscriptions"]):
        if subscription["Endpoint"] == endpoint and subscription["SubscriptionArn"].startswith("arn:"):
            return f"the topic notifies {endpoint.split(':')[-1]}"
    raise Failed(f"{endpoint.split(':')[-1]} is not subscribed to the topic", "deploy again, and let the topic's owner add the output TopicPolicyStatement")


@check
def mapping(deployed):
    """Whether Lambda takes messages from the delivery queue."""
    if "Deliveries" not in deployed.resources:
        raise Skipped(f"{deployed.trigger} has no queue")
    answer = deployed.client("lambda").get_event_source_mapping(UUID=deployed.resources["Deliveries"])
    if answer["State"] not in ("Enabled", "Enabling", "Creating", "Updating"):
        raise Failed(f"the event source mapping is {answer['State']}", f"aws lambda update-event-source-mapping --uuid {answer['UUID']} --enabled")
    return f"the event source mapping is {answer['State']}"


@check
def trail(deployed):
    """Whether the trail that the stack has made records what the rules need."""
    if "Trail" not in deployed.resources:
        raise Skipped(f"{deployed.trigger} uses a trail of yours; look at it as docs/deploy.md says")
    cloudtrail, name = deployed.client("cloudtrail"), deployed.resources["Trail"]
    status = cloudtrail.get_trail_status(Name=name)
    if not status["IsLogging"]:
        raise Failed("it does not log", f"aws cloudtrail start-logging --name {name}")
    if status.get("LatestDeliveryError"):
        raise Failed(f"its last delivery failed: {status['LatestDeliveryError']}", "look at the bucket's policy and at the key's")
    return "it logs and delivers"


@check
def permissions(deployed):
    """What the function's role may do, as IAM evaluates its policies."""
    log_file = f"arn:aws:s3:::{deployed.bucket}/{deployed.parameters['LogKeyPrefix']}x"
    needed = [("sns:Publish", deployed.outputs["AlertTopicArn"]), ("s3:PutObject", f"arn:aws:s3:::{deployed.outputs['LedgerBucketName']}/x")]
    reader = deployed.parameters.get("LogReaderRoleArn")
    needed.append(("sts:AssumeRole", reader) if reader else ("s3:GetObject", log_file))
    if deployed.parameters.get("CanarySchedule"):
        needed.append(("account:ListRegions", f"arn:aws:account::{deployed.account}:account"))
    iam = deployed.client("iam")
    bucket_account = deployed.parameters.get("LogBucketAccountId") or deployed.account
    context = [{"ContextKeyName": "aws:ResourceAccount", "ContextKeyType": "string", "ContextKeyValues": [bucket_account]}]
    for action, resource in needed:
        [result] = iam.simulate_principal_policy(
            PolicySourceArn=deployed.outputs["FunctionRoleArn"], ActionNames=[action], ResourceArns=[resource], ContextEntries=context,
        )["EvaluationResults"]
        if result["EvalDecision"] != "allowed":
            by = "a service control policy or the permissions boundary" if result["EvalDecision"] == "explicitDeny" else "the role's policy was changed, or a boundary"
            raise Failed(f"{action} on {resource} is denied ({result['EvalDecision']})", f"find what denies it ({by}), or deploy again")
    return f"{len(needed)} actions are allowed"


@check
def keys(deployed):
    """Whether the keys of topics and log files can be used."""
    found = [deployed.resources["AlertKey"], deployed.resources["AlarmKey"]]
    if deployed.parameters.get("LogKeyArn") and not deployed.parameters.get("LogBucketAccountId"):
        found.append(deployed.parameters["LogKeyArn"])
    for key in found:
        metadata = deployed.client("kms").describe_key(KeyId=key)["KeyMetadata"]
        if metadata["KeyState"] != "Enabled":
            remedy = f"aws kms cancel-key-deletion --key-id {key}, then " if metadata["KeyState"] == "PendingDeletion" else ""
            raise Failed(f"key {key} is {metadata['KeyState']}", f"{remedy}aws kms enable-key --key-id {key}")
    return f"{len(found)} keys are enabled"


def confirmed(deployed, output, what):
    topic = deployed.outputs[output]
    pages = deployed.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    arns = [entry["SubscriptionArn"] for page in pages for entry in page["Subscriptions"]]
    count = sum(arn.startswith("arn:") for arn in arns)
    pending = sum(arn.startswith("Pending") for arn in arns)
    if count == 0:
        raise Failed(f"nobody gets {what}: {pending} subscriptions wait to be confirmed", "confirm them, as docs/deploy.md says, or subscribe somebody")
    return f"{count} confirmed" + (f", {pending} not confirmed" if pending else "")


@check
def alert_subscriptions(deployed):
    return confirmed(deployed, "AlertTopicArn", "alerts")


@check
def alarm_subscriptions(deployed):
    return confirmed(deployed, "AlarmTopicArn", "alarms")


@check
def self_test(deployed):
    """Whether a test alert can be sent. The reply names the rules."""
    reply, failed = deployed.invoke({"action": "self-test"})
    if failed:
        raise Failed(f"{reply.get('errorType')}: {reply.get('errorMessage')}", "docs/reference.md, Failures")
    rules = reply["Rules"]
    return f"sent; rules {rules['Version']}, digest {rules['Digest']}, {rules['RulesReplaced']} replaced, {rules['CriticalFilters']} filters on critical rules"


def newest_log_file(deployed):
    """Returns the name and the time of the newest log file of a day and Region, or nothing."""
    s3 = deployed.client("s3")
    prefix = deployed.parameters["LogKeyPrefix"]
    today = datetime.datetime.now(datetime.timezone.utc)
    for account in account_folders(s3, deployed.bucket, prefix):
        for days in (0, 1):
            day = (today - datetime.timedelta(days=days)).strftime("%Y/%m/%d")
            folder = f"{account}CloudTrail/us-east-1/{day}/"
            found = s3.list_objects_v2(Bucket=deployed.bucket, Prefix=folder, MaxKeys=LISTED_KEYS).get("Contents", [])
            if found:
                newest = max(found, key=lambda entry: entry["LastModified"])
                return newest["Key"], newest["LastModified"]
    return None


def account_folders(s3, bucket, prefix):
    """Yields the folders of accounts, those of an organization included."""
    root = prefix if prefix.endswith("AWSLogs/") else f"{prefix}AWSLogs/"
    listed = lambda prefix: [entry["Prefix"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/").get("CommonPrefixes", [])]
    for folder in listed(root):
        yield from listed(folder) if folder.split("/")[-2].startswith("o-") else [folder]


@check
def log_file(deployed):
    """Whether the function itself can read the newest log file."""
    found = newest_log_file(deployed)
    if found is None:
        raise Failed(f"no log file of today or yesterday under {deployed.parameters['LogKeyPrefix']}", "check the trail, LogBucketName and LogKeyPrefix")
    key, written = found
    reply, failed = deployed.invoke({"s3Bucket": deployed.bucket, "s3ObjectKey": [key]})
    if failed:
        raise Failed(f"{reply.get('errorType')}: {reply.get('errorMessage')}", "docs/reference.md, Failures")
    if reply["Scanned"] != 1:
        raise Failed(f"{key} was not scanned: {json.dumps(reply.get('SkippedBecause'))}", "check LogBucketName and LogKeyPrefix")
    age = int((datetime.datetime.now(datetime.timezone.utc) - written).total_seconds() / 60)
    return f"the function has read a log file of {age} minutes ago"


@check
def scanned(deployed):
    """Whether log files arrive by themselves."""
    hours = max(int(deployed.parameters.get("SilenceHours") or 0), 3)
    count = deployed.metric("Scanned", "Sum", hours)
    if not count:
        raise Failed(f"no log file was scanned in {hours} hours", "see `notification` above; in a quiet account, wait")
    return f"{count:.0f} log files in {hours} hours"


@check
def delay(deployed):
    """How long log files wait."""
    seconds = deployed.metric("HandlingDelay", "Maximum", 24)
    if seconds is None:
        raise Skipped("no log file has said when it was written")
    limit = int(deployed.parameters["HandlingDelaySeconds"])
    if seconds > limit:
        raise Failed(f"a log file waited {seconds:.0f} s in the last 24 hours", "docs/runbook.md, Alarms: slow-handling")
    return f"at most {seconds:.0f} s in the last 24 hours"


@check
def canary(deployed):
    """Whether the last canary has come back."""
    if not deployed.parameters.get("CanarySchedule"):
        raise Skipped("CanarySchedule is empty")
    if deployed.metric("CanaryMissing", "Maximum", 24) == 1:
        raise Failed("a canary of the last 24 hours did not come back in time", "docs/runbook.md, The canary")
    seconds = deployed.metric("CanaryDelay", "Maximum", 24)
    if seconds is None:
        raise Failed("no canary has come back in the last 24 hours", "docs/runbook.md, The canary; after a deployment, wait for the first one")
    return f"came back after {seconds:.0f} s at most"


@check
def queues(deployed):
    """Whether failed events wait for somebody."""
    sqs = deployed.client("sqs")
    for name, remedy in (("FailedQueueUrl", "docs/runbook.md, Redrive"), ("RedriveDeadLetterQueueUrl", "docs/runbook.md, Redrive")):
        attributes = sqs.get_queue_attributes(QueueUrl=deployed.outputs[name], AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        if int(attributes["ApproximateNumberOfMessages"]):
            raise Failed(f"{attributes['ApproximateNumberOfMessages']} events wait in {deployed.outputs[name].rsplit('/', 1)[-1]}", remedy)
    return "no failed event waits"


@check
def alarms(deployed):
    """Whether all alarms are in the OK state and notify somebody."""
    pages = deployed.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{deployed.name}-")
    found = [alarm for page in pages for alarm in page["MetricAlarms"]]
    mute = [alarm["AlarmName"] for alarm in found if not alarm["ActionsEnabled"]]
    if mute:
        raise Failed(f"{', '.join(mute)} notify nobody", f"aws cloudwatch enable-alarm-actions --alarm-names {' '.join(mute)}")
    raised = [alarm["AlarmName"].removeprefix(f"{deployed.name}-") for alarm in found if alarm["StateValue"] == "ALARM"]
    if raised:
        raise Failed(f"in the ALARM state: {', '.join(raised)}", "docs/runbook.md, Alarms")
    return f"{len(found)} alarms, none in the ALARM state"


def printable(text):
    """Returns the text in one line, without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def report(state, name, text):
    indent = " " * 31
    for line in textwrap.wrap(printable(text), COLUMNS, initial_indent=f"{state:8} {name.replace('_', '-'):21} ", subsequent_indent=indent,
                              break_long_words=False, break_on_hyphens=False):
        print(line)


def run(deployed):
    """Makes every check. Returns the number of checks that failed, and of those that could not be made."""
    failures = unknown = 0
    for function in CHECKS:
        try:
            report("ok", function.__name__, function(deployed))
        except Skipped as reason:
            report("skipped", function.__name__, reason)
        except Failed as problem:
            failures += 1
            report("FAILED", function.__name__, problem)
            report("", "", f"Remedy: {problem.remedy}")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in DENIED:
                unknown += 1
                report("unknown", function.__name__, f"your credentials may not call {error.operation_name}")
            else:
                failures += 1
                report("FAILED", function.__name__, error)
                report("", "", "Remedy: if the resource is gone, deploy again")
    return failures, unknown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stack", nargs="?", default="billing-watch", help="name of the stack (default: billing-watch)")
    arguments = parser.parse_args()
    try:
        deployed = Deployed(arguments.stack)
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"stack {arguments.stack} can't be read: {printable(error)}. Set AWS_PROFILE and AWS_DEFAULT_REGION, and name the stack")
    print(f"billing-watch, stack {deployed.name} in {deployed.region}, Trigger={deployed.trigger}, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")
    failures, unknown = run(deployed)
    print(f"{failures} failed, {unknown} unknown, of {len(CHECKS)} checks")
    sys.exit(1 if failures else 2 if unknown else 0)


if __name__ == "__main__":
    main()
