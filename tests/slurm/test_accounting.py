"""A cluster that keeps accounts: another Slurm than that of the other tests, so in a session of its own."""

import os

import pytest

pytestmark = pytest.mark.skipif(not os.environ.get("DEEPCLUST_TEST_ACCOUNTING"), reason="runs in a session of its own")

TARGET = "results/data/digits/train/images.bin"


def test_states_are_asked_of_sacct(slurm, clone):
    clone.edit_profile(("# slurm_account: my_account", "slurm_account: vision"))
    done = clone.run("--", TARGET)
    assert done.returncode == 0, done.stderr[-3000:]
    (job,) = slurm.ask("sacct", "-n", "-P", "-X", "-o", "comment,state,account").splitlines()
    assert job.split("|")[1:] == ["COMPLETED", "vision"]
    slurm.wait(lambda: not slurm.jobs(), "the controller to forget the job", seconds=120)


def test_an_unknown_account(slurm, clone):
    clone.edit_profile(("# slurm_account: my_account", "slurm_account: visoin"))
    done = clone.run("--", TARGET)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said == "prepare: you have no Slurm account visoin; did you mean 'vision'?"
