"""Clones of the project, as on a login node, and how to run Snakemake in them through the shipped profile."""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from small_experiment import ROOT, environment

# The default experiment with as little work as possible.
EXPERIMENT = re.sub(r"epochs: \d+", "epochs: 1", re.sub(r"seeds: \d+", "seeds: 2", (ROOT / "config.yaml").read_text()))
# What a test has no time for: long waits, and more threads than there are CPUs for.
QUICK = (
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15", "--configfile", "small.yaml"),
    *("--set-threads", "pretrain=1", "extract_features=1", "find_neighbors=1", "cluster=1", "probe=1"),
)


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

    def run_here(self, target):
        """Make a file on this machine, by one process and without Slurm."""
        words = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "small.yaml", "--", target]
        done = subprocess.run(words, cwd=self.folder, env=self.env(), capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]

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
