"""Tells whether EventBridge and the log files give an event the same id, from the ledger of a deployed stack. Only reads.

If the ids differed, each event would alert twice: nothing else of a record is sure to be its own. AWS does not say that they
are equal. A direct event whose log file has come is in one entry of the ledger if the ids are equal, and in two if not.

Ends with status 0 if the ids are equal, 1 if they differ, and 2 if nothing can be said yet.
"""

import argparse
import datetime
import json
import sys

from verify import Deployed, boto3, BotoCoreError, ClientError

# What two records of one event have in common, whatever their ids.
SAME = ("event_time", "event_source", "event_name", "affected_account", "actor")


def entries(s3, bucket, prefix):
    """Yields the ledger's entries under a prefix: `(name, entry)`."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            yield found["Key"], json.loads(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())


def what(entry):
    """Returns what an entry's finding says, for comparing, or nothing if it has not alerted."""
    findings = [publication["archive"]["finding"] for publication in entry["published"] if publication.get("archive")]
    return tuple(findings[0].get(member) for member in SAME) if findings else None


def judge(days):
    """Compares entries by day: `[{name: entry}]`. Returns `(equal, different, waiting)`, each a list of names."""
    equal, different, waiting = [], [], []
    for day in days:
        from_files = {what(entry): name for name, entry in day.items() if entry.get("log_file") and not entry.get("direct_at")}
        for name, entry in day.items():
            if not entry.get("direct_at") or what(entry) is None:
                continue
            if entry.get("log_file"):
                equal.append(name)
            elif what(entry) in from_files:
                different.append(f"{name} and {from_files[what(entry)]}")
            else:
                waiting.append(name)
    return equal, different, waiting


def main():
    parser = argparse.ArgumentParser(description="Tells whether EventBridge and the log files give an event the same id. Only reads.")
    parser.add_argument("stack", nargs="?", default="billing-watch", help="name of the stack (default: %(default)s)")
    parser.add_argument("--days", type=int, default=7, help="how many days to look back (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        bucket = Deployed(arguments.stack).outputs["LedgerBucketName"]
        s3, today = boto3.client("s3"), datetime.datetime.now(datetime.timezone.utc).date()
        dates = [today - datetime.timedelta(days=number) for number in range(arguments.days)]
        equal, different, waiting = judge([dict(entries(s3, bucket, f"{date:%Y/%m/%d}/")) for date in dates])
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"{error}\nThe command needs cloudformation:DescribeStacks, cloudformation:ListStackResources, s3:ListBucket and s3:GetObject on the ledger.")
    for names, says in ((equal, "came by both paths with one id"), (different, "came by both paths with DIFFERENT ids, and alerted twice"), (waiting, "has not come in a log file")):
        for name in names:
            print(f"{name} {says}")
    if different:
        print("\nThe ids differ. Deploy with DirectEvents=false, and report it: the fast path cannot work.")
        return 1
    if not equal:
        print(
            f"\nNothing to compare in {arguments.days} days. An alert must have come by the fast path, and its log file, which may take an hour. To cause one, set an "
            "alternate contact of an account to what it is: aws account put-alternate-contact."
        )
        return 2
    print(f"\nThe ids of both paths are equal for {len(equal)} events.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
