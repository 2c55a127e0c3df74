"""The function's role allows the requests that the function makes and those that AWS makes for it, and no others."""

import json

import pytest
from moto.iam.access_control import IAMPolicy, PermissionResult

from stack import ACCOUNT, LOG_ACCOUNT, REGION, TRIGGERS, Stack, closure, log_file, transformed

LOG_KEY_ARN = f"arn:aws:kms:{REGION}:{LOG_ACCOUNT}:key/11112222-3333-4444-5555-666677778888"
RULES_KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/99992222-3333-4444-5555-666677778888"
READER = f"arn:aws:iam::{LOG_ACCOUNT}:role/billing-watch-log-reader"
# Denied on every resource: the function must not be able to remove evidence, or to perform the actions that it alerts on.
DENIED = [
    "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutBucketPolicy", "s3:DeleteBucket", "s3:PutBucketNotification", "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl", "s3:PutEncryptionConfiguration", "s3:BypassGovernanceRetention",
    "sns:Subscribe", "sns:Unsubscribe", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:AddPermission",
    "sqs:DeleteQueue", "sqs:PurgeQueue", "sqs:SetQueueAttributes",
    "kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:PutKeyPolicy", "kms:CreateGrant", "kms:Encrypt",
    "logs:DeleteLogGroup", "logs:DeleteLogStream", "logs:PutRetentionPolicy", "logs:GetLogEvents",
    "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration", "lambda:InvokeFunction", "lambda:DeleteFunction",
    "cloudtrail:StopLogging", "cloudtrail:DeleteTrail", "cloudtrail:PutEventSelectors", "cloudwatch:DeleteAlarms", "cloudwatch:DisableAlarmActions",
    "events:DisableRule", "events:PutEvents", "events:RemoveTargets",
    "iam:PassRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:CreateAccessKey", "sts:GetFederationToken",
    "organizations:CloseAccount", "organizations:LeaveOrganization", "account:PutAlternateContact", "billing:UpdateBillingPreferences",
    "payments:DeletePaymentInstrument", "secretsmanager:GetSecretValue", "ssm:GetParameter", "dynamodb:GetItem", "ec2:CreateNetworkInterface",
]


def role_policy(stack):
    """Returns the only policy of the function's role, from IAM."""
    iam = stack.client("iam")
    role = stack.outputs["FunctionRoleArn"].rsplit("/", 1)[1]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    return iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]


def allows(policy, action, resource, owner=ACCOUNT, via=f"s3.{REGION}.amazonaws.com"):
    """Whether the policy allows the action on the resource, if `owner` owns the resource and the service `via` makes the request to KMS."""
    context = {"aws:ResourceAccount": owner, "kms:ViaService": via}
    # Each statement by itself, because moto denies everything when the condition of one Allow statement does not hold.
    each = [IAMPolicy(json.dumps({"Statement": [statement]})) for statement in policy["Statement"]]
    return any(one.is_action_permitted(action, resource, None, context) == PermissionResult.PERMITTED for one in each)


def needs(call):
    """Returns the permissions that a request to AWS needs: `(action, resource)`."""
    parameters = call["parameters"]
    match call["service"], call["operation"]:
        case "s3", "GetObject":
            action = "s3:GetObjectVersion" if "VersionId" in parameters else "s3:GetObject"
            return [(action, f"arn:aws:s3:::{parameters['Bucket']}/{parameters['Key']}")]
        case "s3", "PutObject":
            return [("s3:PutObject", f"arn:aws:s3:::{parameters['Bucket']}/{parameters['Key']}")]
        case "s3", "ListObjectsV2":
            return [("s3:ListBucket", f"arn:aws:s3:::{parameters['Bucket']}")]
        case "sns", "Publish":
            return [("sns:Publish", parameters["TopicArn"])]
        case "sns", "ListSubscriptionsByTopic":
            return [("sns:ListSubscriptionsByTopic", parameters["TopicArn"])]
        case "sts", "AssumeRole":
            return [("sts:AssumeRole", parameters["RoleArn"])]
    raise AssertionError(f"`needs` has no case for {call}")


def needs_of_aws(stack):
    """Returns the permissions that AWS itself uses through the role: `(action, resource)`."""
    queues = [stack.resources[name] for name in ("FailedQueue", "DeliveryQueue") if name in stack.resources]
    arns = [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{url.rsplit('/', 1)[1]}" for url in queues]
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{stack.resources['AlertKey']}"
    log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{stack.name}:log-stream:2026/03/02/[$LATEST]0123"
    return [
        *[(f"sqs:{action}", arn) for arn in arns for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")],  # the event source mappings
        ("sqs:SendMessage", arns[0]),  # the on-failure destination
        ("kms:GenerateDataKey", key), ("kms:Decrypt", key),  # publishing to an encrypted topic
        ("logs:CreateLogStream", log), ("logs:PutLogEvents", log),
        # For an entry that does not exist, S3 answers 404 with this permission and 403 without it.
        ("s3:ListBucket", f"arn:aws:s3:::{stack.outputs['LedgerBucketName']}"),
    ]


@pytest.fixture(scope="module")
def boundary(localstack):
    """The ARN of a policy that allows everything."""
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    return localstack.client("iam").create_policy(PolicyName="boundary", PolicyDocument=json.dumps(everything))["Policy"]["Arn"]


@pytest.fixture(scope="module")
def everything(localstack, boundary):
    """A stack that uses every optional permission, and the permissions that its function needed for invocations of every kind."""
    s3 = localstack.client("s3")
    for bucket in ("logs-permissions", "rules-permissions"):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="logs-permissions", VersioningConfiguration={"Status": "Enabled"})
    rule = "title: t\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {product: aws, service: cloudtrail}\n" \
        "detection: {selection: {eventSource: iam.amazonaws.com}, condition: selection}\nlevel: low\n"
    s3.put_object(Bucket="rules-permissions", Key="pack/own.yml", Body=rule)
    stack = Stack(localstack, "watch-permissions", {
        "Trigger": "bucket-queue", "LogBucketName": "logs-permissions", "LogKeyArn": LOG_KEY_ARN, "RulesUri": "s3://rules-permissions/pack/",
        "RulesKeyArn": RULES_KEY_ARN, "PermissionsBoundaryArn": boundary,
    })
    stack.subscribe_queue(stack.outputs["AlertTopicArn"])
    before = len(localstack.call_log.read_text().splitlines())
    key = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz"
    version = s3.put_object(Bucket="logs-permissions", Key=key, Body=log_file(closure("event-1")))["VersionId"]
    for named in ({}, {"versionId": version}):
        record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventVersion": "2.1",
                  "s3": {"bucket": {"name": "logs-permissions"}, "object": {"key": key, "size": 1, **named}}}
        reply, failed = stack.invoke({"Records": [record]})
        assert not failed, reply
    reply, failed = stack.invoke({"action": "self-test"})
    assert not failed, reply
    calls = [json.loads(line) for line in localstack.call_log.read_text().splitlines()[before:]]
    return stack, [need for call in calls for need in needs(call)]


def test_the_role_allows_every_request_of_the_function_and_of_aws_on_its_behalf(everything):
    stack, seen = everything
    policy = role_policy(stack)
    assert {action for action, _ in seen} == {
        "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:ListBucket", "sns:Publish", "sns:ListSubscriptionsByTopic",
    }
    for action, resource in seen + needs_of_aws(stack) + [("kms:Decrypt", LOG_KEY_ARN), ("kms:Decrypt", RULES_KEY_ARN)]:
        assert allows(policy, action, resource), (action, resource)


def test_the_role_allows_nothing_that_is_not_needed(everything):
    stack, seen = everything
    needed = seen + needs_of_aws(stack) + [("kms:Decrypt", LOG_KEY_ARN), ("kms:Decrypt", RULES_KEY_ARN)]
    for statement in role_policy(stack)["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for action in actions:
            assert "*" not in action
            for resource in resources:
                assert resource.startswith("arn:aws:"), resource
                alone = {"Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}
                assert any(allows(alone, *need) for need in needed), f"nothing needs {action} on {resource}"


def test_the_deployed_role_has_the_permissions_boundary(localstack, everything, boundary):
    stack, _ = everything
    role = localstack.client("iam").get_role(RoleName=stack.outputs["FunctionRoleArn"].rsplit("/", 1)[1])["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary


@pytest.mark.parametrize("key", [LOG_KEY_ARN, RULES_KEY_ARN])
def test_the_role_decrypts_only_through_s3(everything, key):
    policy = role_policy(everything[0])
    assert allows(policy, "kms:Decrypt", key)
    for via in ("", f"sns.{REGION}.amazonaws.com", "s3.eu-central-1.amazonaws.com"):
        assert not allows(policy, "kms:Decrypt", key, via=via)


def test_only_alarms_of_this_account_use_the_topics_keys_through_cloudwatch():
    for key in ("AlertKey", "AlarmKey"):
        [statement] = [entry for entry in transformed()["Resources"][key]["Properties"]["KeyPolicy"]["Statement"] if "Service" in entry["Principal"]]
        assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert statement["Condition"] == {
            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
            "ArnLike": {"aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"}},
        }


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_the_role_does_not_allow_dangerous_actions_or_other_resources(deployed, trigger):
    stack = deployed(trigger).stack
    policy = role_policy(stack)
    granted = [statement["Resource"] for statement in policy["Statement"]]
    resources = [resource for entry in granted for resource in (entry if isinstance(entry, list) else [entry])]
    for resource in [*resources, "*", "arn:aws:iam::999988887777:role/admin", "arn:aws:s3:::another-bucket/key"]:
        for action in DENIED:
            assert not allows(policy, action, resource.replace("*", "x")), (action, resource)
    assert allows(policy, "s3:GetObject", f"arn:aws:s3:::logs-{trigger}/AWSLogs/x")
    assert not allows(policy, "s3:GetObject", f"arn:aws:s3:::logs-{trigger}/AWSLogs/x", owner="123456789012")
    for action, resource in [
        ("s3:PutObject", f"arn:aws:s3:::logs-{trigger}/AWSLogs/x"),
        ("s3:GetObject", f"arn:aws:s3:::logs-{trigger}/elsewhere/x"),
        ("s3:GetObject", "arn:aws:s3:::another-bucket/AWSLogs/x"),
        ("sns:Publish", stack.outputs["AlarmTopicArn"]),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{stack.resources['AlarmKey']}"),
        ("sts:AssumeRole", READER),
        ("sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{stack.name}-redrive-dead-letter"),
    ]:
        assert not allows(policy, action, resource), (action, resource)


def statements(policy):
    return {statement["Sid"]: statement for statement in json.loads(policy)["Statement"]}


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_only_the_trigger_s_own_source_can_reach_the_function(deployed, trigger):
    watch = deployed(trigger)
    stack = watch.stack
    rule = {"ArnLike": {"AWS:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{stack.resources.get('LogFileRule')}"}}
    expected = {
        "new-trail": ("s3.amazonaws.com", {"ArnLike": {"AWS:SourceArn": f"arn:aws:s3:::{watch.bucket}"}}),
        "eventbridge": ("events.amazonaws.com", rule),
        "topic": ("sns.amazonaws.com", {"ArnLike": {"AWS:SourceArn": getattr(watch, "topic", None)}}),
    }
    expected["new-organization-trail"] = expected["bucket"] = expected["new-trail"]
    policy = json.loads(stack.client("lambda").get_policy(FunctionName=stack.name)["Policy"])["Statement"]
    found = [(statement["Principal"]["Service"], statement["Condition"]) for statement in policy]
    schedule = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{stack.resources['SelfTestRule']}"
    assert ("events.amazonaws.com", {"ArnLike": {"AWS:SourceArn": schedule}}) in found
    others = [entry for entry in found if schedule not in str(entry)]
    assert others == ([expected[trigger]] if trigger in expected else [])
    if trigger.endswith("-queue"):
        sends = statements(stack.client("sqs").get_queue_attributes(QueueUrl=stack.resources["DeliveryQueue"], AttributeNames=["Policy"])["Attributes"]["Policy"])
        allowed = [statement for statement in sends.values() if statement["Effect"] == "Allow"]
        source = {"bucket-queue": f"arn:aws:s3:::{watch.bucket}", "topic-queue": getattr(watch, "topic", None),
                  "eventbridge-queue": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{stack.resources.get('LogFileRule')}"}[trigger]
        assert [statement["Condition"]["ArnEquals"]["aws:SourceArn"] for statement in allowed] == [source]
        assert [statement["Action"] for statement in allowed] == ["sqs:SendMessage"]


def test_each_topic_has_its_own_key_that_alarms_can_use(deployed):
    stack = deployed("bucket").stack
    sns, kms = stack.client("sns"), stack.client("kms")
    keys = set()
    for topic in ("AlertTopicArn", "AlarmTopicArn"):
        attributes = sns.get_topic_attributes(TopicArn=stack.outputs[topic])["Attributes"]
        key = attributes["KmsMasterKeyId"]
        keys.add(key)
        alarms = statements(attributes["Policy"])["AlarmsOfThisAccountPublish"]
        assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"} and alarms["Action"] == "sns:Publish"
        assert alarms["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
        assert statements(attributes["Policy"])["DenyInsecureTransport"]["Effect"] == "Deny"
        policy = statements(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
        assert policy["AlarmsEncrypt"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert policy["AlarmsEncrypt"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
        # The deployer can still change the key's policy. Otherwise AWS refuses to create the key.
        assert {"kms:PutKeyPolicy", "kms:GenerateDataKey", "kms:Decrypt"} <= set(policy["AccountAdministersAndDelegates"]["Action"])
        assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
        assert not any("*" in action for statement in policy.values() for action in statement["Action"])
    assert len(keys) == 2
    mails = {subscription["Endpoint"] for subscription in sns.list_subscriptions()["Subscriptions"] if subscription["TopicArn"] == stack.outputs["AlertTopicArn"]}
    assert "alerts@example.com" in mails


def test_the_ledger_is_encrypted_versioned_and_private(deployed):
    stack = deployed("bucket").stack
    s3, bucket = stack.client("s3"), stack.outputs["LedgerBucketName"]
    [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    insecure = statements(s3.get_bucket_policy(Bucket=bucket)["Policy"])["DenyInsecureTransport"]
    assert (insecure["Effect"], insecure["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_queues_keep_messages_long_enough_and_hide_them_long_enough(deployed):
    stack = deployed("eventbridge-queue").stack
    attributes = lambda name: stack.client("sqs").get_queue_attributes(QueueUrl=stack.resources[name], AttributeNames=["All"])["Attributes"]
    timeout = stack.client("lambda").get_function_configuration(FunctionName=stack.name)["Timeout"]
    assert timeout == 60
    failed = attributes("FailedQueue")
    assert failed["MessageRetentionPeriod"] == attributes("RedriveDeadLetterQueue")["MessageRetentionPeriod"] == str(14 * 86400)
    assert int(failed["VisibilityTimeout"]) >= 6 * timeout
    assert json.loads(failed["RedrivePolicy"])["deadLetterTargetArn"] == attributes("RedriveDeadLetterQueue")["QueueArn"]
    deliveries = attributes("DeliveryQueue")
    window = transformed()["Parameters"]["BatchingWindowSeconds"]["MaxValue"]
    # The fixture has shortened that of the deployed queue.
    assert transformed()["Resources"]["DeliveryQueue"]["Properties"]["VisibilityTimeout"] >= 6 * timeout + window
    assert json.loads(deliveries["RedrivePolicy"]) == {"deadLetterTargetArn": failed["QueueArn"], "maxReceiveCount": 5}
    mappings = {mapping["EventSourceArn"]: mapping for mapping in stack.client("lambda").list_event_source_mappings(FunctionName=stack.name)["EventSourceMappings"]}
    assert all(mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"] for mapping in mappings.values())
    assert mappings[deliveries["QueueArn"]]["ScalingConfig"] == {"MaximumConcurrency": 10}
    assert mappings[failed["QueueArn"]]["State"] in ("Disabled", "Disabling")
    on_failure = stack.client("lambda").get_function_event_invoke_config(FunctionName=stack.name)
    assert on_failure["DestinationConfig"]["OnFailure"]["Destination"] == failed["QueueArn"]
    [target] = stack.client("events").list_targets_by_rule(Rule=stack.resources["LogFileRule"])["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == failed["QueueArn"]


def test_a_topic_s_subscription_has_a_dead_letter_queue(deployed):
    stack = deployed("topic").stack
    attributes = stack.client("sns").get_subscription_attributes(SubscriptionArn=stack.resources["LogFileSubscription"])["Attributes"]
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith(f":{stack.name}-failed")
