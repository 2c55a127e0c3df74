"""Writes the bundled rules for teams with a SIEM: as SigmaHQ's repository holds rules, and as searches.

usage: sigma_export.py FOLDER. The folder is emptied first. `rules/` in it holds the rules, and each other folder in it the
same rules for one product.
"""

import json
import pathlib
import re
import shutil
import sys

import yaml
from sigma.backends.elasticsearch import EqlBackend, ESQLBackend
from sigma.backends.splunk import SplunkBackend
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import (
    AddConditionTransformation,
    FieldMappingTransformation,
    FieldPrefixMappingTransformation,
    SetStateTransformation,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL_WORDS = {"a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"}
TABLE = "cloudtrail"
ATTACK = json.loads((ROOT / "src/alert/attack.json").read_text())["objects"]


def items(*transformations):
    return [ProcessingItem(transformation=transformation) for transformation in transformations]


def elastic(*more):
    """Returns the transformations for Elastic's integration of CloudTrail. An item belongs to one pipeline."""
    return items(
        FieldMappingTransformation({
            "eventSource": "event.provider",
            "eventName": "event.action",
            "errorCode": "aws.cloudtrail.error_code",
            "userIdentity.type": "aws.cloudtrail.user_identity.type",
        }),
        FieldPrefixMappingTransformation({
            "requestParameters": "aws.cloudtrail.flattened.request_parameters",
            "serviceEventDetails": "aws.cloudtrail.flattened.service_event_details",
        }),
        AddConditionTransformation({"event.dataset": "aws.cloudtrail"}),
        *more,
    )


def pipelines():
    """Returns `{folder: (backend, file ending)}`. The field names are those of each product's own integration of CloudTrail."""
    splunk = items(AddConditionTransformation({"sourcetype": "aws:cloudtrail"}))
    sqlite = items(SetStateTransformation("table", TABLE))
    return {
        "splunk": (SplunkBackend(ProcessingPipeline(items=splunk)), "spl"),
        "elastic-eql": (EqlBackend(ProcessingPipeline(items=elastic())), "eql"),
        "elastic-esql": (ESQLBackend(ProcessingPipeline(items=elastic(SetStateTransformation("index", "logs-aws.cloudtrail-*")))), "esql"),
        "sqlite": (sqliteBackend(ProcessingPipeline(items=sqlite)), "sql"),
    }


def exported(text):
    """Returns the text of a rule as SigmaHQ's conventions want it. Comments on what is unverified stay."""
    rule = yaml.safe_load(text)
    title = rule["title"]
    # Of an abbreviation, the first letter stays.
    first = title if title[:2].isupper() else title[0].lower() + title[1:]
    description = f"description: |\n  Detects CloudTrail events of this kind: {first}.\n  {rule['description']}\n"
    # The response, which is the last member, is no member of Sigma.
    text = text[:text.index("# What to do now")]
    text = re.sub(r"^title: .*", f"title: {title_case(title if title.startswith('AWS') else 'AWS ' + title)}", text)
    text = re.sub(r"^status: .*", "status: experimental", text, flags=re.MULTILINE)
    text = re.sub(r"^description: >-\n(  .*\n)+", lambda _: description, text, flags=re.MULTILINE)
    # SigmaHQ names every tactic of a technique.
    tactics = sorted({f"attack.{tactic}" for tag in rule["tags"] for tactic in tactics_of(tag)} | {tag for tag in rule["tags"] if not is_technique(tag)})
    tags = [*tactics, *filter(is_technique, rule["tags"])]
    text = re.sub(r"^tags:\n(  - .*\n)+", "tags:\n" + "".join(f"  - {tag}\n" for tag in tags), text, flags=re.MULTILINE)
    # SigmaHQ indents by four spaces.
    return re.sub(r"^ +", lambda spaces: 2 * spaces[0], text, flags=re.MULTILINE)


def is_technique(tag):
    return re.fullmatch(r"attack\.t\d{4}(\.\d{3})?", tag) is not None


def tactics_of(tag):
    """Returns the tactics of an ATT&CK technique."""
    if not is_technique(tag):
        return []
    [technique] = [entry for entry in ATTACK if entry["external_references"][0]["external_id"] == tag.removeprefix("attack.").upper()]
    return [phase["phase_name"] for phase in technique["kill_chain_phases"]]


def title_case(title):
    words = title.split()
    return " ".join(word if number and word in SMALL_WORDS else word[0].upper() + word[1:] for number, word in enumerate(words))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    rules = folder / "rules/cloud/aws/cloudtrail"
    rules.mkdir(parents=True)
    backends = pipelines()
    paths = [*sorted(ROOT.glob("rules/*.yml")), *sorted(ROOT.glob("rules/optional/*/*.yml"))]
    for path in paths:
        name = f"aws_cloudtrail_{path.stem.replace('-', '_')}"
        text = exported(path.read_text())
        (rules / f"{name}.yml").write_text(text)
        for product, (backend, ending) in backends.items():
            # A conversion changes the rule.
            [query] = backend.convert(SigmaCollection.from_yaml(text))
            (folder / product).mkdir(exist_ok=True)
            (folder / product / f"{name}.{ending}").write_text(query.strip() + "\n")
    print(f"{len(paths)} rules in {rules}, and as searches in {', '.join(str(folder / name) for name in backends)}")


if __name__ == "__main__":
    main()
