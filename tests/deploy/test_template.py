"""Checks the templates without deploying them, with SAM, cfn-lint and checkov, and by their text."""

import json
import os
import re
import shlex
import subprocess

import pytest

import cost
from stack import ROOT, TRIGGERS, transformed

TEMPLATES = ["template.yaml", "template-log-account.yaml", "template-member-account.yaml", "template-chat.yaml"]
# AWS has no chat applications there, and CloudFormation refuses a template that names their resources.
WITHOUT_CHAT = [name for name in TEMPLATES if name != "template-chat.yaml"]


def run(*command, **variables):
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1", **variables},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sam_reports_no_problem():
    assert "is a valid SAM Template" in run(".venv-sam/bin/sam", "validate", "--lint")


@pytest.mark.parametrize("regions, names", [("us-east-1,eu-central-1", TEMPLATES), ("us-gov-west-1,cn-north-1", WITHOUT_CHAT)])
def test_cfn_lint_reports_no_problem(regions, names):
    run(".venv/bin/cfn-lint", *names, "--regions", *regions.split(","))


def test_checkov_reports_no_problem_and_every_skip_has_a_reason():
    files = [option for name in TEMPLATES for option in ("--file", name)]
    # `--skip-download` keeps checkov off the network.
    report = json.loads(run(".venv-checkov/bin/checkov", *files, "--framework", "cloudformation", "--skip-download", "--output", "json"))
    assert report["summary"]["passed"] > 40 and report["summary"]["parsing_errors"] == 0
    for check in report["results"]["skipped_checks"]:
        assert len(check["check_result"]["suppress_comment"]) > 30, check["resource"]


def test_every_parameter_has_a_description_a_label_a_group_and_a_limit():
    for name in TEMPLATES:
        template = transformed(name)
        interface = template["Metadata"]["AWS::CloudFormation::Interface"]
        grouped = [parameter for group in interface["ParameterGroups"] for parameter in group["Parameters"]]
        parameters = template["Parameters"]
        assert sorted(grouped) == sorted(parameters) == sorted(interface["ParameterLabels"])
        for parameter, definition in parameters.items():
            assert len(definition["Description"]) > 20, parameter
            assert {"AllowedValues", "AllowedPattern", "MinValue"} & set(definition), parameter
            if "AllowedPattern" in definition:
                assert "ConstraintDescription" in definition, parameter
                if "Default" in definition:
                    assert re.fullmatch(definition["AllowedPattern"], definition["Default"]), parameter


@pytest.mark.parametrize("parameter, good, bad", [
    ("LogBucketName", ["trail-logs", "a.b.c"], ["", "s3://logs", "logs/prefix", "Logs"]),
    ("LogKeyPrefix", ["", "AWSLogs/", "o-exampleorg1/AWSLogs/"], ["AWSLogs", "*/", "a?/"]),
    ("LogKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/mrk-1"], ["alias/x", "arn:aws:kms:us-east-1:111122223333:alias/x"]),
    ("LogKeyPattern", ["*", "*/CloudTrail/*.json.gz", "111122223333/CloudTrail/us-east-1/*"], ["", "**", "*/**/x", "x**", "a?"]),
    ("PermissionsBoundaryArn", ["", "arn:aws:iam::111122223333:policy/path/boundary", "arn:aws:iam::aws:policy/PowerUserAccess"], ["boundary", "arn:aws:iam::111122223333:role/x"]),
    ("RulesKeyArn", ["", "arn:aws:kms:us-east-1:111122223333:key/mrk-1"], ["alias/x", "arn:aws:kms:us-east-1:111122223333:alias/x"]),
    ("NotificationTopicArn", ["", "arn:aws-cn:sns:cn-north-1:111122223333:t"], ["t", "arn:aws:sns:us-east-1:111122223333:t.fifo"]),
    ("LogReaderRoleArn", ["", "arn:aws:iam::111122223333:role/path/reader"], ["reader", "arn:aws:iam::111122223333:user/x"]),
    ("EventSources", ["billing-family", "billing-family,iam.amazonaws.com", "a.b , c.d"], ["", ",", "a b"]),
    ("RulesUri", ["", "s3://example-rules/", "s3://example-rules/a/b/"], ["example-rules", "s3://example-rules", "s3://example-rules/a", "s3://r*/a/"]),
    ("AccountNamesUri", ["", "s3://example-rules/accounts.json"], ["example-rules", "s3://example-rules/", "accounts.json"]),
    ("TimeZone", ["", "UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"], ["Europe/", "Berlin Time"]),
    ("DirectRoleName", ["billing-watch-direct-events"], ["", "path/role", "*"]),
    ("SelfTestSchedule", ["", "rate(7 days)", "cron(0 9 ? * MON *)"], ["weekly", "rate 7 days"]),
    ("CoverageSchedule", ["", "rate(1 day)"], ["daily"]),
    ("CanarySchedule", ["", "rate(1 hour)"], ["hourly"]),
    ("AlertEmail", ["", "soc@example.com"], ["soc", "a@b c"]),
])
def test_an_invalid_parameter_is_rejected_before_deployment(parameter, good, bad):
    pattern = transformed()["Parameters"][parameter]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in good)
    assert not any(re.fullmatch(pattern, value) for value in bad)


def evaluate(expression, parameters):
    """Evaluates the intrinsic functions that the template's rules use."""
    if not isinstance(expression, dict):
        return expression
    [(function, arguments)] = expression.items()
    if function == "Ref":
        return parameters[arguments]
    values = [evaluate(argument, parameters) for argument in arguments]
    return {
        "Fn::Equals": lambda: values[0] == values[1], "Fn::Not": lambda: not values[0],
        "Fn::And": lambda: all(values), "Fn::Or": lambda: any(values),
    }[function]()


def failed_assertions(**given):
    """Returns the messages of the assertions that fail for a combination of parameters."""
    template = transformed()
    parameters = {name: definition.get("Default") for name, definition in template["Parameters"].items()} | given
    return [
        assertion["AssertDescription"]
        for rule in template["Rules"].values()
        if evaluate(rule["RuleCondition"], parameters)
        for assertion in rule["Assertions"]
        if not evaluate(assertion["Assert"], parameters)
    ]


def test_conflicting_parameters_are_rejected_with_a_remedy():
    assert failed_assertions(Trigger="topic-queue") == ["topic and topic-queue need NotificationTopicArn"]
    assert failed_assertions(Trigger="new-organization-trail", ManagementAccountId="111122223333") == ["new-organization-trail needs OrganizationId"]
    assert failed_assertions(Trigger="new-trail", LogBucketAccountId="111122223333") == ["a new bucket belongs to this account; leave LogBucketAccountId empty"]
    for trigger in TRIGGERS:
        assert failed_assertions(Trigger=trigger, NotificationTopicArn="t", OrganizationId="o", ManagementAccountId="1") == []


def test_the_template_has_the_properties_that_localstack_ignores():
    resources = transformed()["Resources"]
    for bucket, days in (("LedgerBucket", "LedgerRetentionDays"), ("LogBucket", "TrailRetentionDays")):
        rule = resources[bucket]["Properties"]["LifecycleConfiguration"]["Rules"][0]
        assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", {"Ref": days})
    for kept in ("LedgerBucket", "LogBucket", "LogBucketPolicy", "Trail"):
        assert (resources[kept]["DeletionPolicy"], resources[kept]["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), kept
    account = {"Fn::If": ["BucketIsInAnotherAccount", {"Ref": "LogBucketAccountId"}, {"Ref": "AWS::AccountId"}]}
    assert resources["BucketMayInvoke"]["Properties"]["SourceAccount"] == account
    trail = resources["Trail"]["Properties"]
    assert trail["IsMultiRegionTrail"] and trail["EnableLogFileValidation"] and trail["IncludeGlobalServiceEvents"] and trail["IsLogging"]
    assert trail["IsOrganizationTrail"] == {"Fn::If": ["CreatesOrganizationTrail", True, False]}
    assert trail["TrailName"] == {"Ref": "AWS::StackName"} and resources["Trail"]["DependsOn"] == "LogBucketPolicy"


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_reader_role_without_the_bucket_s_account_is_rejected_where_nothing_would_arrive(trigger):
    role = {"Trigger": trigger, "NotificationTopicArn": "t", "LogReaderRoleArn": "arn:aws:iam::111122223333:role/reader"}
    messages = [message for message in failed_assertions(**role) if "this trigger needs LogBucketAccountId" in message]
    assert len(messages) == (1 if trigger.startswith(("bucket", "eventbridge")) else 0)
    assert not trigger.startswith(("bucket", "eventbridge")) or failed_assertions(**role, LogBucketAccountId="111122223333") == []


def test_every_queue_keeps_its_messages_for_14_days():
    queues = [
        (name, resource["Properties"]["MessageRetentionPeriod"])
        for path in TEMPLATES for name, resource in transformed(path)["Resources"].items() if resource["Type"] == "AWS::SQS::Queue"
    ]
    assert queues == [(name, 14 * 24 * 3600) for name in ("FailedQueue", "RedriveDeadLetterQueue", "DeliveryQueue", "DirectQueue", "UnsentQueue")]


def test_every_role_has_the_permissions_boundary():
    expected = {"Fn::If": ["HasPermissionsBoundary", {"Ref": "PermissionsBoundaryArn"}, {"Ref": "AWS::NoValue"}]}
    roles = [(name, role["Properties"].get("PermissionsBoundary")) for path in TEMPLATES for name, role in transformed(path)["Resources"].items() if role["Type"] == "AWS::IAM::Role"]
    assert roles == [(name, expected) for name in ("BackfillRole", "FunctionRole", "LogReaderRole", "SenderRole", "SenderRole", "ChatRole")]


def test_every_queue_refuses_requests_without_tls():
    for path in TEMPLATES:
        resources = transformed(path)["Resources"].values()
        queues = {name for name, resource in transformed(path)["Resources"].items() if resource["Type"] == "AWS::SQS::Queue"}
        policies = {policy["Properties"]["Queues"][0]["Ref"]: policy["Properties"] for policy in resources if policy["Type"] == "AWS::SQS::QueuePolicy"}
        assert set(policies) == queues
        for queue, policy in policies.items():
            [deny] = [statement for statement in policy["PolicyDocument"]["Statement"] if statement.get("Effect") == "Deny"]
            assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, queue
            assert deny["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}


def test_the_event_pattern_begins_with_the_prefix_that_the_function_may_read():
    for path in ("template.yaml", "template-log-account.yaml"):
        detail = transformed(path)["Resources"]["LogFileRule"]["Properties"]["EventPattern"]["detail"]
        assert detail["object"]["key"] == [{"wildcard": {"Fn::Sub": "${LogKeyPrefix}${LogKeyPattern}"}}]


def candidates():
    """Returns `(event source, event name)` of each event that a rule names, in lower case, without the optional rules."""
    rows = [line.split("\t") for line in (ROOT / "rules/candidates.tsv").read_text().splitlines()]
    return {(source, name) for source, name, *optional in rows if not optional}


def test_the_fast_path_matches_every_event_that_a_rule_names():
    patterns = [transformed(path)["Resources"]["DirectRule"]["Properties"] for path in ("template.yaml", "template-member-account.yaml")]
    assert patterns[0]["EventPattern"] == patterns[1]["EventPattern"]
    for rule in patterns:
        # Rules that are only ENABLED miss what CloudTrail marks as a read, and it marks writes so, too.
        assert rule["State"] == "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
        assert rule["EventPattern"]["source"] == [{"prefix": "aws."}]
        # EventBridge takes patterns of at most 2,048 characters.
        assert len(json.dumps(rule["EventPattern"])) <= 2048
    whole, named = patterns[0]["EventPattern"]["detail"]["$or"]
    names = {name.lower() for name in named["eventName"]}
    missed = {(source, name) for source, name in candidates() if source not in whole["eventSource"] and not (source in named["eventSource"] and name in names)}
    assert missed == set()
    # And of busy services nothing else.
    assert names == {name for source, name in candidates() if source in named["eventSource"]}


def test_chat_can_run_no_commands():
    resources = transformed("template-chat.yaml")["Resources"]
    role = resources["ChatRole"]["Properties"]
    assert not {"Policies", "ManagedPolicyArns"} & set(role)
    channels = [resource["Properties"] for resource in resources.values() if resource["Type"].startswith("AWS::Chatbot::")]
    assert len(channels) == 2
    for channel in channels:
        assert channel["GuardrailPolicies"] == [{"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/AWSDenyAll"}]
        assert channel["IamRoleArn"] == {"Fn::GetAtt": ["ChatRole", "Arn"]} and channel["LoggingLevel"] == "ERROR"


def test_only_one_role_of_the_organization_may_send_direct_events():
    resources = transformed()["Resources"]
    expected = {
        "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}},
        "ArnLike": {"aws:PrincipalArn": {"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/${DirectRoleName}"}},
    }
    assert resources["MembersMaySend"]["Properties"]["Statement"]["Condition"] == expected
    statements = resources["DirectQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    [members] = [statement["Fn::If"][1] for statement in statements if statement.get("Fn::If", [""])[0] == "MembersFillQueue"]
    assert members["Principal"] == "*" and members["Condition"] == expected


def test_the_new_trail_s_bucket_has_a_bucket_key():
    [rule] = transformed()["Resources"]["LogBucket"]["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True


def test_no_arn_has_a_fixed_partition_and_no_action_has_a_wildcard():
    for name in TEMPLATES:
        text = json.dumps({key: value for key, value in transformed(name).items() if key not in ("Parameters", "Metadata")})
        assert "arn:aws:" not in text
        assert not re.search(r'"(?:[a-z0-9]+):[A-Za-z]*\*"', text.replace("s3:ObjectCreated:*", ""))


def test_the_cost_page_has_the_tables_of_cost_py():
    document = (ROOT / "docs/cost.md").read_text()
    for table in run("python3", "scripts/cost.py").strip().split("\n\n"):
        assert table in document, "run scripts/cost.py and copy its tables into docs/cost.md"
    assert cost.MEMORY_GB * 1024 == transformed()["Parameters"]["MemorySize"]["Default"]
    resources = transformed()["Resources"].values()
    always = [entry for entry in resources if entry["Type"] == "AWS::CloudWatch::Alarm" and entry.get("Condition") in (None, "HasSilenceAlarm")]
    assert cost.ALARM_METRICS[""] == sum(len([part for part in alarm["Properties"].get("Metrics", [{"MetricStat": ...}]) if "MetricStat" in part]) for alarm in always)


def parsed_by_sam(words):
    """Parses `--parameter-overrides` with SAM's own parser, which rejects an empty value and splits a value at a space."""
    program = "import json, sys; from samcli.cli.types import CfnParameterOverridesType; " \
        "print(json.dumps(CfnParameterOverridesType().convert(tuple(sys.argv[1:]), None, None)))"
    return json.loads(run(".venv-sam/bin/python", "-c", program, *words))


@pytest.mark.parametrize("document", ["README.md", "docs/deploy.md", "docs/reference.md"])
def test_the_documented_sam_deploy_commands_are_valid(document):
    text = (ROOT / document).read_text().replace("\\\n", " ")
    template = transformed()
    given = [line.split("--parameter-overrides", 1)[1] for line in text.splitlines() if "sam deploy --parameter-overrides" in line]
    given += re.findall(r"`('[A-Z][A-Za-z]+=[^`]*')`", text)
    assert given
    for words in given:
        for name, value in parsed_by_sam(shlex.split(words)).items():
            definition = template["Parameters"][name]
            example = re.sub(r"(LOG|AUDIT)-ACCOUNT", "111122223333", value).replace("REGION", "us-east-1")
            assert re.fullmatch(definition.get("AllowedPattern", ".*"), example), (name, value)
            assert example in definition.get("AllowedValues", [example]), (name, value)
