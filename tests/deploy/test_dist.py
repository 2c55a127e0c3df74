"""What `make dist` packages, around a bootstrap that takes no build, and what a release does with it."""

import json
import re
import subprocess
import sys
import zipfile

import hcl2
import pytest
from samtranslator.yaml_helper import yaml_parse

from stack import ROOT

import release_notes
from project import VERSION

ZIP, CLI_ZIP = f"billing-watch-{VERSION}-x86_64.zip", f"billing-watch-cli-{VERSION}-x86_64.zip"


def dist(folder, *architectures):
    """Packages a script as the bootstrap for each processor. Returns the folder with the result."""
    folder.mkdir()
    options = []
    for architecture in architectures:
        (folder / architecture).write_text(f"#!/bin/sh\n# {architecture}\n")
        options += ["--bootstrap", f"{architecture}={folder / architecture}"]
    subprocess.run([ROOT / ".venv-dist/bin/python", ROOT / "scripts/dist", "--output", folder / "dist", *options], check=True)
    return folder / "dist"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return dist(tmp_path_factory.mktemp("dist") / "one", "x86_64", "arm64")


def parsed(path):
    return yaml_parse(path.read_text())


def test_the_same_files_give_the_same_bytes(release, tmp_path):
    again = dist(tmp_path / "another-folder", "x86_64", "arm64")
    names = {path.name for path in release.iterdir()}
    assert names == {path.name for path in again.iterdir()} and ZIP in names
    for name in names:
        assert (release / name).read_bytes() == (again / name).read_bytes(), name


def test_the_zip_holds_an_executable_bootstrap_the_licence_and_the_notices(release):
    with zipfile.ZipFile(release / ZIP) as archive:
        assert archive.testzip() is None
        modes = {member.filename: oct(member.external_attr >> 16) for member in archive.infolist()}
        assert modes == {"LICENSE": "0o100644", "NOTICES": "0o100644", "bootstrap": "0o100755"}
        assert archive.read("bootstrap") == b"#!/bin/sh\n# x86_64\n"
        assert archive.read("LICENSE") == (ROOT / "LICENSE").read_bytes()
        notices = archive.read("NOTICES").decode()
    # Crates that are linked, with their own texts; crates of the tests, of macros and of builds are not.
    for text in ("\naws-sdk-s3 ", "\nrsigma-eval 0.23.0: MIT\n", "\nzlib-rs ", "Permission is hereby granted", "Apache License"):
        assert text in notices, text
    for name in ("proptest", "tiny_http", "serde_derive", "cc"):
        assert f"\n{name} " not in notices, name


def test_the_command_line_comes_with_what_is_needed_to_try_it(release):
    logs = [str(path.relative_to(ROOT)) for path in (ROOT / "examples/logs").iterdir()]
    with zipfile.ZipFile(release / CLI_ZIP) as archive:
        assert archive.testzip() is None
        modes = {member.filename: oct(member.external_attr >> 16) for member in archive.infolist()}
        assert modes == {"billing-watch": "0o100755", **dict.fromkeys(["LICENSE", "NOTICES", "README.md", *logs], "0o100644")} and len(logs) > 1
        notices = archive.read("NOTICES").decode()
    for name in ("clap", "maud", "aws-sdk-s3control"):
        assert f"\n{name} " in notices, name
    bill = json.loads((release / CLI_ZIP).with_suffix(".cdx.json").read_text())
    assert {"clap", "maud"} <= {part["name"] for part in bill["components"]}


@pytest.mark.parametrize("architecture, target", [("x86_64", "x86_64-unknown-linux-gnu"), ("arm64", "aarch64-unknown-linux-gnu")])
def test_the_bill_of_materials_names_every_linked_crate(release, architecture, target):
    bill = json.loads((release / f"billing-watch-{VERSION}-{architecture}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "1.6", "billing-watch")
    tree = subprocess.run(["cargo", "tree", "--locked", "--edges", "normal,no-proc-macro", "--target", target, "--prefix", "none"],
                          cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line and not line.startswith("billing-watch ")}
    assert {(part["name"], f"v{part['version']}") for part in bill["components"]} == linked
    assert all(part["hashes"] and part["licenses"] for part in bill["components"])
    # Whatever a crate depends on is a component itself.
    references = {part["bom-ref"] for part in [*bill["components"], bill["metadata"]["component"]]}
    assert {entry["ref"] for entry in bill["dependencies"]} == references
    assert {other for entry in bill["dependencies"] for other in entry.get("dependsOn", [])} <= references


@pytest.mark.parametrize("architecture, name", [("x86_64", "template.yaml"), ("arm64", "template-arm64.yaml")])
def test_a_template_deploys_the_zip_for_its_processor_without_a_build(release, architecture, name):
    template, source = parsed(release / name), parsed(ROOT / "template.yaml")
    for function in ("Function", "BackfillFunction"):
        assert template["Resources"][function]["Properties"].pop("CodeUri") == f"billing-watch-{VERSION}-{architecture}.zip"
        assert source["Resources"][function]["Properties"].pop("CodeUri") == "function.zip"
    assert template["Parameters"]["Architecture"]["AllowedValues"] == [architecture] == [template["Parameters"]["Architecture"]["Default"]]
    for parameters in (template["Parameters"], source["Parameters"]):
        del parameters["Architecture"]
    assert template == source
    assert "BuildMethod" not in (release / name).read_text()
    subprocess.run([ROOT / ".venv-sam/bin/sam", "validate", "--lint", "--region", "us-east-1", "--template-file", release / name], check=True)


def test_the_template_for_code_in_a_bucket_needs_no_transform(release):
    template = json.loads((release / "template-cloudformation.json").read_text())
    assert "Transform" not in template and set(template["Parameters"]) - set(parsed(ROOT / "template.yaml")["Parameters"]) == {"CodeBucket", "CodeKey"}
    assert template["Resources"]["Function"]["Properties"]["Code"] == {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}}
    subprocess.run([ROOT / ".venv/bin/cfn-lint", "--regions", "us-east-1", "--template", release / "template-cloudformation.json"], check=True)


def test_the_terraform_example_gives_the_template_s_parameters(release):
    example = hcl2.loads((release / "main.tf").read_text())
    text = json.dumps(example)
    [stack] = [block["aws_cloudformation_stack"] for block in map(unquoted, example["resource"]) if "aws_cloudformation_stack" in block]
    given = stack["billing_watch"]["parameters"]
    definitions = json.loads((release / "template-cloudformation.json").read_text())["Parameters"]
    assert set(given) <= set(definitions)
    assert {name for name, definition in definitions.items() if "Default" not in definition} <= set(given)
    assert given["Trigger"].strip('"') in definitions["Trigger"]["AllowedValues"]
    for name in re.findall(r"var\.(\w+)", text):
        assert name in {key for block in map(unquoted, example["variable"]) for key in block}, name
    # The file names in it are those of a release.
    assert "template-cloudformation.json" in text and "billing-watch-[0-9]*-x86_64.zip" in text


def unquoted(block):
    """Returns the block with labels without quotes, which some versions of the parser keep."""
    if isinstance(block, dict):
        return {key.strip('"'): unquoted(value) for key, value in block.items()}
    return block


def test_the_checksums_cover_every_file(release):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=release, stdout=subprocess.PIPE, text=True, check=True)
    checked = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    assert checked == {path.name for path in release.iterdir()} - {"SHA256SUMS"}


def merge(*folders):
    return subprocess.run([sys.executable, ROOT / "scripts/dist/merge.py", *folders], stderr=subprocess.PIPE, text=True)


def test_what_two_machines_have_built_is_merged_only_if_it_agrees(release, tmp_path):
    one, other = dist(tmp_path / "one", "x86_64"), dist(tmp_path / "other", "arm64")
    assert merge(tmp_path / "merged", one, other).returncode == 0
    assert {path.name: path.read_bytes() for path in release.iterdir()} == {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}
    (other / "LICENSE").write_text("another")
    done = merge(tmp_path / "again", one, other)
    assert done.returncode == 1 and "LICENSE differs" in done.stderr


@pytest.mark.parametrize("tag, heading, problem", [
    ("v1.2.0", "1.2.0 - 2026-12-01", None),
    ("v1.2.1", "1.2.0 - 2026-12-01", "the tag is v1.2.1, but Cargo.toml has version 1.2.0"),
    ("1.2.0", "1.2.0 - 2026-12-01", "the tag is 1.2.0"),
    ("v1.2.0", "1.1.0 - 2026-12-01", "0 sections on 1.2.0"),
    ("v1.2.0", "1.2.0 - unreleased", "does not end in a date"),
])
def test_the_notes_of_a_release_are_its_section_of_the_changelog(tag, heading, problem):
    changelog = f"# Changelog\n\n## {heading}\n\n### Added\n\n- A thing.\n\n## 1.0.0 - 2026-01-01\n\n- Another.\n"
    if problem is None:
        assert release_notes.notes(tag, "1.2.0", changelog) == "### Added\n\n- A thing.\n"
    else:
        with pytest.raises(ValueError, match=re.escape(problem)):
            release_notes.notes(tag, "1.2.0", changelog)


def test_every_action_of_a_workflow_is_pinned_by_its_commit():
    workflows = list(ROOT.glob(".github/workflows/*.yml"))
    uses = [line for path in workflows for line in path.read_text().splitlines() if "uses:" in line]
    assert len(workflows) == 2 and uses
    for line in uses:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    assert "run: make test\n" in (ROOT / ".github/workflows/ci.yml").read_text()


def test_tools_have_the_same_version_wherever_they_are_pinned():
    pins = lambda name: dict(line.split("==") for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines() if "==" in line)
    dev, packaging = pins("dev"), pins("dist")
    for name in ("cargo-lambda", "ziglang", "aws-sam-translator"):
        assert dev[name] == packaging[name], name
