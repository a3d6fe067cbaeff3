"""A private Slurm for the whole session, and clones of the project to run on it.

Where Slurm cannot run the tests skip; DEEPCLUST_REQUIRE_SLURM=1, as CI sets it, makes that a failure.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from private_slurm import Slurm, missing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from small_experiment import ROOT, copy_project, environment

# The default experiment with as little work as possible.
EXPERIMENT = re.sub(r"epochs: \d+", "epochs: 1", re.sub(r"seeds: \d+", "seeds: 2", (ROOT / "config.yaml").read_text()))
# What a test has no time for: long waits, and more threads than there are CPUs for.
QUICK = (
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15", "--configfile", "small.yaml"),
    *("--set-threads", "pretrain=1", "extract_features=1", "find_neighbors=1", "cluster=1", "probe=1"),
)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    why = missing()
    if why:
        (pytest.fail if os.environ.get("DEEPCLUST_REQUIRE_SLURM") else pytest.skip)(why)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def empty_queue(slurm):
    """No job of one test is there in the next."""
    yield
    slurm.ask("scancel", "--user", "root", check=False)
    slurm.wait(lambda: not slurm.jobs("PENDING,RUNNING,COMPLETING,SUSPENDED"), "the queue to be empty")


class Clone:
    """A clone of the project, as on a login node."""

    def __init__(self, folder):
        self.folder = folder

    def configure(self, text=EXPERIMENT):
        (self.folder / "small.yaml").write_text(text)

    def edit_profile(self, *changes):
        """Edit the shipped profile as a user does: replace lines."""
        path = self.folder / "profiles" / "slurm" / "profile.yaml"
        text = path.read_text()
        for before, after in changes:
            assert before in text, before
            text = text.replace(before, after)
        path.write_text(text)

    def command(self, *words):
        return [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *QUICK, *words]

    def run(self, *words, preexec=None, **more):
        """Run to the end; returns the finished process with its text."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=500,
            env=self.env(**more),
            preexec_fn=preexec,
        )

    def start(self, *words, **more):
        """Start, in a process group of its own; the text goes to driver.txt."""
        with (self.folder / "driver.txt").open("w") as out:
            return subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.env(**more),
                start_new_session=True,
            )

    def env(self, **more):
        # A minute is the shortest time limit that Slurm knows; it is to hold several checkpoints.
        return {**environment(), "OMP_NUM_THREADS": "1", "DEEPCLUST_CHECKPOINT_SECONDS": "1", **more}

    def said(self):
        return (self.folder / "driver.txt").read_text()


@pytest.fixture
def clone(tmp_path, slurm):
    copy_project(tmp_path)
    made = Clone(tmp_path)
    made.configure()
    return made
