"""Connects an existing bucket to billing-watch, or disconnects it.

S3 stores one notification configuration per bucket and replaces it as a whole. This program reads the
configuration, adds the missing notification, shows the difference, asks, writes the new configuration and
reads it again. It keeps the bucket's other notifications.
"""

import argparse
import difflib
import json
import sys

try:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ParamValidationError
except ModuleNotFoundError:
    sys.exit("this program needs boto3, the AWS SDK for Python: run `python3 -m pip install boto3`")

KINDS = {"lambda": ("LambdaFunctionConfigurations", "LambdaFunctionArn"), "sqs": ("QueueConfigurations", "QueueArn")}
ALL_KINDS = {**KINDS, "sns": ("TopicConfigurations", "TopicArn")}
EVENT = "s3:ObjectCreated:*"
SUFFIX = ".json.gz"


class Problem(Exception):
    """A message that names the problem and its remedy."""


def filter_of(entry):
    """Returns `(prefix, suffix)` of the keys that a notification covers."""
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    named = {rule["Name"].lower(): rule["Value"] for rule in rules}
    return named.get("prefix", ""), named.get("suffix", "")


def events_overlap(one, other):
    """Whether two event types overlap. Each may end in `*`."""
    if one.endswith("*") and other.endswith("*"):
        return one.startswith(other[:-1]) or other.startswith(one[:-1])
    if one.endswith("*"):
        return other.startswith(one[:-1])
    return one.startswith(other[:-1]) if other.endswith("*") else one == other


def overlaps(one, other):
    """Whether S3 rejects the two notifications in one bucket: their events, prefixes and suffixes overlap."""
    (prefix, suffix), (other_prefix, other_suffix) = filter_of(one), filter_of(other)
    return (
        any(events_overlap(event, other_event) for event in one["Events"] for other_event in other["Events"])
        and (prefix.startswith(other_prefix) or other_prefix.startswith(prefix))
        and (suffix.endswith(other_suffix) or other_suffix.endswith(suffix))
    )


def destinations(configuration):
    """Returns `(kind, ARN, entry)` for each notification to a topic, queue or function."""
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
        raise Problem(f"the target is `{target}`. Give `eventbridge`, or the ARN of the function or the queue, as in the stack's output NotificationTarget")
    return kind


def with_notification(configuration, target, identifier, prefix):
    """Returns the configuration with the notification added, or unchanged if a notification already covers it."""
    # Remove this stack's earlier notification first. Its target may be deleted, and S3 rejects deleted targets.
    others = without_own(configuration, target, identifier)
    if target == "eventbridge":
        return {**others, "EventBridgeConfiguration": configuration.get("EventBridgeConfiguration", {})}
    section, _ = KINDS[kind_of(target)]
    entry = wanted_entry(target, identifier, prefix)
    for kind, other_target, other_entry in destinations(others):
        if other_target == target and EVENT in other_entry["Events"] and covers(other_entry, entry):
            return configuration
        if overlaps(entry, other_entry):
            raise Problem(explain(entry, kind, other_target, other_entry))
    return {**others, section: [*others.get(section, []), entry]}


def is_own(arn, target, stack):
    """Whether `arn` is the function or the queue of this stack, in the account and Region of the target if it has any."""
    same_place = target == "eventbridge" or arn.split(":")[3:5] == target.split(":")[3:5]
    return arn.split(":")[-1] in (stack, f"{stack}-deliveries") and same_place


def without_own(configuration, target, identifier):
    """Returns the configuration without the notification that this program added under the identifier."""
    foreign = [arn for _, arn, entry in destinations(configuration) if entry.get("Id") == identifier and not is_own(arn, target, identifier)]
    if foreign:
        raise Problem(
            f"the notification with the id `{identifier}` has the target {foreign[0]}, which does not belong to this stack; nothing was changed. "
            "Remove the notification by hand if nobody needs it"
        )
    sections = {section: [entry for entry in configuration.get(section, []) if entry.get("Id") != identifier] for section, _ in ALL_KINDS.values()}
    rest = {name: value for name, value in configuration.items() if name not in sections}
    return {**rest, **{section: entries for section, entries in sections.items() if entries}}


def covers(existing, wanted):
    """Whether the existing notification covers every key that the wanted one covers."""
    (prefix, suffix), (wanted_prefix, wanted_suffix) = filter_of(existing), filter_of(wanted)
    return wanted_prefix.startswith(prefix) and wanted_suffix.endswith(suffix)


def explain(entry, kind, other_target, other_entry):
    """Returns the message about another notification that overlaps with the entry."""
    prefix, suffix = filter_of(other_entry)
    keys = f"the keys {prefix}*{suffix}" if prefix or suffix else "all keys"
    remedies = [
        "Deploy with Trigger=eventbridge (or eventbridge-queue), then run connect.py again. EventBridge receives the events of every object, "
        "whatever other notifications the bucket has.",
    ]
    if kind == "sns":
        remedies.insert(0, f"Deploy with Trigger=topic (or topic-queue) and NotificationTopicArn={other_target}: the bucket already notifies this topic.")
    remedies.append("Narrow the events, the prefix or the suffix of the other notification, if its owner does not need all of them.")
    return (
        f"the notification `{other_entry.get('Id', 'without an id')}` of the bucket already has the target {other_target} for "
        f"{', '.join(other_entry['Events'])} and {keys}. It overlaps with the new notification ({entry['Events'][0]}, {'*'.join(filter_of(entry))}), and "
        "S3 allows only one notification for the same event of an object.\nNothing was changed. You can do one of the following:\n- "
        + "\n- ".join(remedies)
    )


def normal(configuration):
    """Returns a form in which equivalent configurations are equal. S3 keeps no order, and changes the case of a filter's names."""
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
            f"stack {stack} can't be read: {error}. Name another stack with --stack. If you use credentials of the bucket's account, "
            "give the stack's output NotificationTarget with --target"
        ) from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in answer["Stacks"][0].get("Outputs", [])}
    if "NotificationTarget" not in outputs:
        raise Problem(f"stack {stack} needs no notification of a bucket, because its trigger is a topic or a new trail")
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
                "EventBridge is on or off for the whole bucket, and others may use its events. Nothing was changed. If nobody uses them, turn "
                "EventBridge off in the S3 console: bucket, Properties, Amazon EventBridge"
            )
    else:
        after = with_notification(before, target, arguments.stack, prefix)
    if normal(after) == normal(before):
        print(f"{arguments.bucket}: nothing to do, it is {'not connected' if arguments.remove else 'connected already'}")
        return
    print("\n".join(difflib.unified_diff(shown(before), shown(after), f"{arguments.bucket} before", f"{arguments.bucket} after", lineterm="", n=1000)))
    if not arguments.yes and not agreed():
        raise Problem("nothing was changed")
    if normal(read(s3, arguments.bucket, owner)) != normal(before):
        raise Problem("somebody else changed the bucket's notifications in the meantime. Nothing was changed; try again")
    s3.put_bucket_notification_configuration(Bucket=arguments.bucket, NotificationConfiguration=after, **owner)
    if normal(read(s3, arguments.bucket, owner)) != normal(after):
        raise Problem("the bucket's notifications differ from what was written. Compare them with the configuration shown above")
    print(f"{arguments.bucket}: {'disconnected' if arguments.remove else 'connected'}")


def agreed():
    if not sys.stdin.isatty():
        print("\nThere is no terminal to ask for confirmation. Add --yes to write this.")
        return False
    return input("\nWrite this? [y/N] ").strip().lower() in ("y", "yes")


def remedy(error):
    """Returns the remedy for an error of AWS, or nothing."""
    code = error.response["Error"]["Code"]
    if code == "InvalidArgument" and "destination" in str(error):
        return (
            "; S3 could not validate a target. Check that the stack was deployed for this bucket (LogBucketName), its account "
            "(LogBucketAccountId) and its Region. Check also that the targets of the other notifications above exist, because S3 validates all of them"
        )
    if code in ("AccessDenied", "AllAccessDisabled"):
        return "; allow s3:GetBucketNotification and s3:PutBucketNotification. AWS Control Tower denies them on its own buckets: docs/deploy.md"
    if code == "NoSuchBucket":
        return "; give the name only, without s3://"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bucket", help="name of the bucket with the log files")
    parser.add_argument("--stack", default="billing-watch", help="the function's stack; its outputs name the target (default: billing-watch)")
    parser.add_argument("--target", help="the target, if not the stack's: ARN of a function or a queue, or `eventbridge`")
    parser.add_argument("--prefix", help="prefix of the log files' keys (default: the stack's, else AWSLogs/)")
    parser.add_argument("--owner", help="account that must own the bucket")
    parser.add_argument("--remove", action="store_true", help="remove the notification")
    parser.add_argument("--yes", action="store_true", help="write without asking")
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
        sys.exit(f"`{arguments.bucket}` is not the name of a bucket; give the name only, without s3:// and without a key")
    except BotoCoreError as error:
        sys.exit(f"{arguments.bucket}: {error}")


if __name__ == "__main__":
    main()
