"""Templates that need no build."""

import json
import os
import re

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from project import ROOT

SOURCE = ROOT / "template.yaml"
# The resources of template.yaml that run the code.
FUNCTIONS = ("Function", "BackfillFunction")


class NoManagedPolicies:
    """A loader of managed policies for SAM. The template uses none."""

    def load(self):
        return {}


def write_for_zip(output, architecture, zip_name):
    """Writes the template that deploys the function from a zip file beside it. That of x86_64 is template.yaml."""
    text = replaced(r"CodeUri: .*", f"CodeUri: {zip_name}", SOURCE.read_text(), len(FUNCTIONS))
    text = replaced(r"(  Architecture:\n(?:    .*\n)*?    Default: ).*\n", rf"\g<1>{architecture}\n", text)
    text = replaced(r"(  Architecture:\n(?:    .*\n)*?    AllowedValues: ).*\n", rf"\g<1>[{architecture}]\n", text)
    name = "template.yaml" if architecture == "x86_64" else f"template-{architecture}.yaml"
    (output / name).write_text(text)


def write_for_code_in_a_bucket(output):
    """Writes the template as SAM transforms it, with the place of the zip file as parameters."""
    template = transformed({"Bucket": {"Ref": "CodeBucket"}, "Key": {"Ref": "CodeKey"}})
    template["Parameters"] |= {
        "CodeBucket": {
            "Type": "String", "AllowedPattern": "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "Description": "Bucket that holds the zip file of the function, in the Region of the stack.",
        },
        "CodeKey": {
            "Type": "String", "AllowedPattern": r".+\.zip",
            "Description": "Key of the zip file, such as billing-watch-1.0.0-x86_64.zip. Its processor must be that of Architecture.",
        },
    }
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    interface["ParameterGroups"].append({"Label": {"default": "Code"}, "Parameters": ["CodeBucket", "CodeKey"]})
    interface["ParameterLabels"] |= {"CodeBucket": {"default": "Bucket with the zip file"}, "CodeKey": {"default": "Key of the zip file"}}
    (output / "template-cloudformation.json").write_text(json.dumps(template, indent=1) + "\n")


def transformed(code):
    """Returns the template after SAM's transform, with the function's code at the given place."""
    template = yaml_parse(SOURCE.read_text())
    for name in FUNCTIONS:
        template["Resources"][name]["Properties"]["CodeUri"] = code
    # SAM looks the partition of ARNs up by the Region. The template has no ARN with a fixed one.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    return transform(template, {}, NoManagedPolicies())


def replaced(pattern, replacement, text, places=1):
    """Replaces the places that match the pattern."""
    result, count = re.subn(pattern, replacement, text)
    if count != places:
        raise ValueError(f"template.yaml has {count} places like `{pattern}`, not {places}")
    return result
