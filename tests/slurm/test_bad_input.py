"""Mistakes end in one clear line, before the first job is submitted."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from clones import Clone
from private_slurm import LIBC, check
from small_experiment import copy_project

CLONE_NEWUTS = 0x04000000
TARGET = "results/backbones/simclr/model.json"


def refusal(slurm, clone, *words, **more):
    """The one line that is said, and that nothing was submitted."""
    before = len(slurm.jobs())
    done = clone.run(*words, "--", TARGET, **more)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert len(slurm.jobs()) == before
    return done.stderr.strip().splitlines()[-1]


SMALL_CLUSTER = {
    "pretrain: there is no partition gup; did you mean 'gpu'?": ("# slurm_partition: gpu ", "slurm_partition: gup "),
    "pretrain: 2 GPUs are more than any node of partition main has (1)": ('"gpu:1"', '"gpu:2"'),
    "pretrain: no node of partition main has a GPU lagre; did you mean 'large'?": ('"gpu:1"', '"gpu:lagre:1"'),
    "pretrain: a runtime of 2880 minutes is more than partition main allows (1440)": ("time: 720", "time: 2880"),
    "pretrain: 320000 MB of memory are more than any node of partition main has (256000)": (
        "min(32000 * attempt, 64000)",
        "320000",
    ),
    "pretrain: 400000 MB of memory, as the last attempt asks for, are more than any node of partition main has "
    "(256000): bound them in the profile, mem_mb: min(100000 * attempt, 256000)": (
        "min(32000 * attempt, 64000)",
        "100000 * attempt",
    ),
    "prepare, pretrain: this cluster keeps no accounts: remove the account (x)": (
        "# slurm_account:",
        "slurm_account: x #",
    ),
    "set-resources.pretrian: there is no such rule; did you mean 'pretrain'?": ("  pretrain:\n   ", "  pretrian:\n   "),
    "set-resources.pretrain.runtmie: unknown resource; did you mean 'runtime'?": ("runtime: 720", "runtmie: 720"),
}


@pytest.mark.parametrize("line", SMALL_CLUSTER)
def test_profiles_that_do_not_fit(slurm, clone, line):
    clone.edit_profile(SMALL_CLUSTER[line])
    assert line in refusal(slurm, clone)


def test_the_largest_of_unlike_nodes_counts(slurm, clone):
    clone.edit_profile(
        ("# slurm_partition: gpu ", "slurm_partition: mixed "), ("min(32000 * attempt, 64000)", "320000")
    )
    said = refusal(slurm, clone)
    assert said == "pretrain: 320000 MB of memory are more than any node of partition mixed has (256000)"


def test_a_partition_that_would_lose_preempted_jobs(slurm, clone):
    clone.edit_profile(
        ("slurm-requeue: true", "slurm-no-requeue: true"), ("# slurm_partition: gpu ", "slurm_partition: killable ")
    )
    assert refusal(slurm, clone).startswith("partition killable cancels jobs for more urgent ones")


def test_time_limit_shorter_than_a_checkpoint_interval(slurm, clone):
    clone.edit_profile(("runtime: 720", "runtime: 4"))
    said = refusal(slurm, clone, DEEPCLUST_CHECKPOINT_SECONDS="300")
    assert said.startswith("pretrain: a runtime of 4 minutes ends before the first checkpoint, after 5 minutes")


def test_misspelt_key(slurm, clone):
    clone.edit_profile(("slurm-requeue: true", "slurm-reqeue: true"))
    done = clone.run("--", TARGET)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].endswith("unrecognized arguments: --slurm-reqeue=True")


def test_no_sbatch(slurm, clone, tmp_path):
    """All programs of the PATH but those of Slurm."""
    few = tmp_path / "few"
    few.mkdir()
    programs = {}
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        programs |= {path.name: path for path in Path(folder).glob("*")}
    for name in programs.keys() - SLURM_PROGRAMS:
        (few / name).symlink_to(programs[name])
    assert "there is no sbatch on the PATH" in refusal(slurm, clone, PATH=str(few))


SLURM_PROGRAMS = {"sbatch", "squeue", "scontrol", "sinfo", "scancel", "srun", "sacct", "sacctmgr", "sshare"}


@pytest.mark.parametrize("folder", ["results", "logs"])
def test_a_folder_that_cannot_be_written_to(slurm, clone, folder):
    """A mount without the right to write holds for root as well."""
    path = clone.folder / folder
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", path], check=True)
    try:
        assert f"cannot write to {folder}" in refusal(slurm, clone)
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_folder_that_nodes_cannot_see(slurm):
    """Snakemake runs on a machine with another name than that of the nodes, in its memory."""

    def on_another_host():
        check(LIBC.unshare(CLONE_NEWUTS))
        socket.sethostname("login")

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        copy_project(Path(folder))
        clone = Clone(Path(folder))
        clone.configure()
        done = clone.run("--", TARGET, preexec=on_another_host)
        assert done.returncode == 1
        said = done.stderr.strip().splitlines()[-1]
        assert said.startswith(f"{folder} is a tmpfs of this machine, which {socket.gethostname()} cannot see")
        assert not [job for job in slurm.jobs() if job["folder"] == folder]
