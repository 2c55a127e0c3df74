"""Lets a bucket that exists tell billing-watch of new log files, or stops it.

S3 keeps one notification configuration a bucket, and replaces it whole: this reads it, adds what is
missing, shows the difference, asks, writes it, and reads it again. What was there stays there.
"""

import argparse
import difflib
import json
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ParamValidationError

KINDS = {"lambda": ("LambdaFunctionConfigurations", "LambdaFunctionArn"), "sqs": ("QueueConfigurations", "QueueArn")}
ALL_KINDS = {**KINDS, "sns": ("TopicConfigurations", "TopicArn")}
EVENT = "s3:ObjectCreated:*"
SUFFIX = ".json.gz"


class Problem(Exception):
    """What is wrong, and the remedy."""


def filter_of(entry):
    """`(prefix, suffix)` of a configuration's keys."""
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    named = {rule["Name"].lower(): rule["Value"] for rule in rules}
    return named.get("prefix", ""), named.get("suffix", "")


def events_overlap(one, other):
    """Whether two kinds of events, of which each may end in `*`, have any in common."""
    if one.endswith("*") and other.endswith("*"):
        return one.startswith(other[:-1]) or other.startswith(one[:-1])
    if one.endswith("*"):
        return other.startswith(one[:-1])
    return one.startswith(other[:-1]) if other.endswith("*") else one == other


def overlaps(one, other):
    """Whether S3 refuses the two in one bucket: an event, a prefix and a suffix in common."""
    (prefix, suffix), (other_prefix, other_suffix) = filter_of(one), filter_of(other)
    return (
        any(events_overlap(event, its) for event in one["Events"] for its in other["Events"])
        and (prefix.startswith(other_prefix) or other_prefix.startswith(prefix))
        and (suffix.endswith(other_suffix) or other_suffix.endswith(suffix))
    )


def destinations(configuration):
    """Every notification to a topic, queue or function: `(kind, ARN, entry)`."""
    return [
        (kind, entry[arn], entry)
        for kind, (section, arn) in ALL_KINDS.items()
        for entry in configuration.get(section, [])
    ]


def wanted_entry(target, identifier, prefix):
    rules = [{"Name": "prefix", "Value": prefix}] if prefix else []
    return {
        "Id": identifier,
        KINDS[kind_of(target)][1]: target,
        "Events": [EVENT],
        "Filter": {"Key": {"FilterRules": [*rules, {"Name": "suffix", "Value": SUFFIX}]}},
    }


def kind_of(target):
    kind = target.split(":")[2] if target.count(":") >= 5 else ""
    if kind not in KINDS:
        raise Problem(f"TARGET is `{target}`; write eventbridge, or the ARN of the function or the queue: the stack's output NotificationTarget has it")
    return kind


def with_notification(configuration, target, identifier, prefix):
    """The configuration with this notification in it; the same value if it is there already."""
    # An earlier one of this stack's own, perhaps to another target, makes room: S3 refuses targets that are gone.
    others = without_own(configuration, target, identifier)
    if target == "eventbridge":
        return {**others, "EventBridgeConfiguration": configuration.get("EventBridgeConfiguration", {})}
    section, _ = KINDS[kind_of(target)]
    entry = wanted_entry(target, identifier, prefix)
    for kind, its_target, its_entry in destinations(others):
        if its_target == target and EVENT in its_entry["Events"] and covers(its_entry, entry):
            return configuration
        if overlaps(entry, its_entry):
            raise Problem(explain(entry, kind, its_target, its_entry))
    return {**others, section: [*others.get(section, []), entry]}


def is_own(arn, target, stack):
    """Whether it is a function or queue of this stack, in the target's account and Region, if that is known."""
    same_place = target == "eventbridge" or arn.split(":")[3:5] == target.split(":")[3:5]
    return arn.split(":")[-1] in (stack, f"{stack}-deliveries") and same_place


def without_own(configuration, target, identifier):
    """The configuration without the notification that this program added under its id."""
    strangers = [arn for _, arn, entry in destinations(configuration) if entry.get("Id") == identifier and not is_own(arn, target, identifier)]
    if strangers:
        raise Problem(
            f"a notification with the id `{identifier}` tells {strangers[0]}, which is not of this stack; nothing was changed. "
            "Remove it by hand if nobody needs it"
        )
    sections = {section: [entry for entry in configuration.get(section, []) if entry.get("Id") != identifier] for section, _ in ALL_KINDS.values()}
    rest = {name: value for name, value in configuration.items() if name not in sections}
    return {**rest, **{section: entries for section, entries in sections.items() if entries}}


def covers(existing, wanted):
    """Whether every key that one would tell of is one that the other tells of."""
    (prefix, suffix), (wanted_prefix, wanted_suffix) = filter_of(existing), filter_of(wanted)
    return wanted_prefix.startswith(prefix) and wanted_suffix.endswith(suffix)


def explain(entry, kind, target, its_entry):
    prefix, suffix = filter_of(its_entry)
    keys = f"keys {prefix}*{suffix}" if prefix or suffix else "all keys"
    remedies = [
        "Deploy with Trigger=eventbridge (or eventbridge-queue) instead: EventBridge hears of every object, beside any notification; "
        "then `make connect` again.",
    ]
    if kind == "sns":
        remedies.insert(0, f"Or rather, deploy with Trigger=topic (or topic-queue) and NotificationTopicArn={target}: it is notified already.")
    remedies.append("Or narrow the other notification's events, prefix or suffix, if you know that its owner can do without.")
    return (
        f"the bucket tells {target} of {', '.join(its_entry['Events'])} for {keys} already "
        f"(notification `{its_entry.get('Id', 'without an id')}`), and S3 tells only one of the same object ({entry['Events'][0]}, "
        f"{'*'.join(filter_of(entry))}).\nNothing was changed. " + "\n".join(remedies)
    )


def normal(configuration):
    """The same for all that S3 takes for the same: it keeps no order, and writes a filter's names with a capital."""
    copy = json.loads(json.dumps(configuration))
    for section, _ in ALL_KINDS.values():
        for entry in copy.get(section, []):
            entry["Events"].sort()
            entry["Filter"] = filter_of(entry)
        if section in copy:
            copy[section].sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    return copy


def read(s3, bucket, owner):
    answer = s3.get_bucket_notification_configuration(Bucket=bucket, **owner)
    answer.pop("ResponseMetadata")
    return answer


def shown(configuration):
    return json.dumps(configuration, indent=2, sort_keys=True).splitlines()


def stack_outputs(stack):
    try:
        answer = boto3.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        raise Problem(
            f"stack {stack} can't be read: {error}. Name another with STACK=…, or, with credentials of the bucket's account, give its output "
            "NotificationTarget as TARGET=…"
        ) from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in answer["Stacks"][0].get("Outputs", [])}
    if "NotificationTarget" not in outputs:
        raise Problem(f"stack {stack} needs no notification of a bucket: its trigger is a topic or a trail of its own")
    return outputs


def change(arguments):
    target, prefix = arguments.target, arguments.prefix
    if not target:
        outputs = stack_outputs(arguments.stack)
        target = outputs["NotificationTarget"]
        prefix = outputs["NotificationPrefix"] if prefix is None else prefix
    prefix = "AWSLogs/" if prefix is None else prefix
    s3 = boto3.client("s3")
    owner = {"ExpectedBucketOwner": arguments.owner} if arguments.owner else {}
    before = read(s3, arguments.bucket, owner)
    if arguments.remove:
        after = without_own(before, target, arguments.stack)
        if target == "eventbridge" and normal(after) == normal(before):
            raise Problem(
                "EventBridge is on or off for the whole bucket, and others may listen. Nothing was changed; if nobody does, turn it off: "
                "S3 console, bucket, Properties, Amazon EventBridge"
            )
    else:
        after = with_notification(before, target, arguments.stack, prefix)
    if normal(after) == normal(before):
        print(f"{arguments.bucket}: nothing to do, it is {'not connected' if arguments.remove else 'connected already'}")
        return
    print("\n".join(difflib.unified_diff(shown(before), shown(after), f"{arguments.bucket} as it is", f"{arguments.bucket} as it will be", lineterm="", n=1000)))
    if not arguments.yes and not agreed():
        raise Problem("nothing was changed")
    if normal(read(s3, arguments.bucket, owner)) != normal(before):
        raise Problem("somebody else has changed the bucket's notifications meanwhile; nothing was changed: try again")
    s3.put_bucket_notification_configuration(Bucket=arguments.bucket, NotificationConfiguration=after, **owner)
    if normal(read(s3, arguments.bucket, owner)) != normal(after):
        raise Problem("the bucket's notifications are not what was written; compare them with what is shown above")
    print(f"{arguments.bucket}: {'disconnected' if arguments.remove else 'connected'}")


def agreed():
    if not sys.stdin.isatty():
        print("\nNobody can be asked here: add YES=1 to write this.")
        return False
    return input("\nWrite this? [y/N] ").strip().lower() in ("y", "yes")


def remedy(error):
    """What to do about S3's own refusals."""
    code = error.response["Error"]["Code"]
    if code == "InvalidArgument" and "destination" in str(error):
        return (
            "; S3 may not send to a target: was the stack deployed for this bucket (LogBucketName), its account (LogBucketAccountId) "
            "and its Region? Or is the target of another notification shown above gone? S3 tries them all"
        )
    if code in ("AccessDenied", "AllAccessDisabled"):
        return "; allow s3:GetBucketNotification and s3:PutBucketNotification. Control Tower denies them on its own buckets: docs/operations.md"
    if code == "NoSuchBucket":
        return "; BUCKET is the name alone, without s3://"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bucket", help="name of the bucket with the log files")
    parser.add_argument("--stack", default="billing-watch", help="the function's stack; its outputs tell what to notify")
    parser.add_argument("--target", help="what to notify instead: ARN of a function or a queue, or `eventbridge`")
    parser.add_argument("--prefix", help="what the keys begin with (default: as the stack says, else AWSLogs/)")
    parser.add_argument("--owner", help="account that must own the bucket")
    parser.add_argument("--remove", action="store_true", help="take the notification away again")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    arguments = parser.parse_args()
    try:
        change(arguments)
    except Problem as problem:
        sys.exit(f"{arguments.bucket}: {problem}")
    except ClientError as error:
        sys.exit(f"{arguments.bucket}: {error}{remedy(error)}")
    except (NoCredentialsError, NoRegionError) as error:
        sys.exit(f"{arguments.bucket}: {error} Set AWS_PROFILE and AWS_DEFAULT_REGION.")
    except ParamValidationError:
        sys.exit(f"`{arguments.bucket}` is no bucket's name; BUCKET is the name alone, without s3:// or a key")
    except BotoCoreError as error:
        sys.exit(f"{arguments.bucket}: {error}")


if __name__ == "__main__":
    main()
