"""Builds the function so that the result does not depend on the machine or the folder."""

import os
import pathlib
import subprocess
import sys

from project import ROOT

TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
FUNCTION = ["--bin", "billing-watch-function"]
# cargo-lambda would build for the processors of Lambda, which are newer than some that people have.
COMMAND_LINE = ["--bin", "billing-watch", "--features", "cli", "--disable-optimizations"]
TARGET_DIRECTORY = ROOT / "target/dist"
# Variables that would change what Cargo or the C compiler produce.
CHANGING = ("CARGO_BUILD_", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC", "RUSTFLAGS", "CC", "CXX", "AR", "CFLAGS", "CXXFLAGS")


def possible_architectures():
    """Returns the processors for which Rust's standard library is installed."""
    return [architecture for architecture, target in TARGETS.items() if standard_library(target).is_dir()]


def standard_library(target):
    return pathlib.Path(run("rustc", "--print", "target-libdir", "--target", target).strip())


def binary(architecture, options):
    """Builds a program for a processor with cargo-lambda, and zig as the C compiler. Returns its path."""
    # The folders of the sources exist only when they have been downloaded.
    run("cargo", "fetch", "--locked", "--target", TARGETS[architecture])
    cargo_home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    renamed = {ROOT: "/billing-watch", **{folder: "/registry" for folder in sorted(cargo_home.glob("registry/src/*"))}}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(CHANGING)}
    environment |= {
        # Panic messages and assertions hold the paths of sources.
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(f"--remap-path-prefix={folder}={name}" for folder, name in renamed.items()),
        "CFLAGS": " ".join(f"-ffile-prefix-map={folder}={name}" for folder, name in renamed.items()),
        "CARGO_TARGET_DIR": str(TARGET_DIRECTORY),
        "CARGO_LAMBDA_COMPILER": "cargo-zigbuild",
        # cargo-lambda finds zig in the packages of the first python3 on PATH.
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    folder = TARGET_DIRECTORY / architecture
    command = ["cargo", "lambda", "build", "--release", "--locked", *options, "--target", TARGETS[architecture], "--lambda-dir", folder]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder / options[1] / "bootstrap"


def run(*command):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
