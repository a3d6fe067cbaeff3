"""Threads that the workflow gives to jobs."""

import re
import subprocess
import sys

import pytest

from deepclust.core.fingerprint import SCRIPTS

ROOT = SCRIPTS.parent.parent


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The shell commands of the default experiment on four cores."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run"]
    command += ["--printshellcmds", "--cores", "4", "--directory", str(tmp_path_factory.mktemp("workflow"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("script", ["prepare", "extract_features", "find_neighbors", "cluster", "probe"])
def test_jobs_that_scale_get_all_cores(commands, script):
    threads = re.findall(rf"{script}\.py .*?--threads (\d+)", commands)
    assert threads and set(threads) == {"4"}
