"""What billing-watch does for one topic and one event source, written in Python as one would write it for Lambda."""

import gzip
import json
import os
import urllib.parse

import boto3

s3 = boto3.client("s3")
sns = boto3.client("sns")
WATCHED = {"billingconsole.amazonaws.com"}


def notifications(event):
    """Yields the records of S3's notification, also if SQS delivered it."""
    for record in event["Records"]:
        if "body" in record:
            yield from json.loads(record["body"]).get("Records", [])
        else:
            yield record


def handler(event, context):
    found = 0
    for notification in notifications(event):
        key = urllib.parse.unquote_plus(notification["s3"]["object"]["key"])
        answer = s3.get_object(Bucket=notification["s3"]["bucket"]["name"], Key=key)
        for record in json.loads(gzip.decompress(answer["Body"].read()))["Records"]:
            if record["eventSource"] in WATCHED:
                found += 1
                sns.publish(TopicArn=os.environ["ALERT_TOPIC_ARN"], Subject=f"{record['eventName']} in {record['recipientAccountId']}",
                            Message=json.dumps(record, indent=2))
    return {"found": found}
