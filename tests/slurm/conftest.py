"""A private Slurm for the whole session, and clones of the project to run on it.

Where Slurm cannot run the tests skip; DEEPCLUST_REQUIRE_SLURM=1, as CI sets it, makes that a failure.
"""

import os

import pytest

import accounting
from clones import Clone
from private_slurm import NODES, Slurm, missing
from small_experiment import copy_project


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    with_accounting = os.environ.get("DEEPCLUST_TEST_ACCOUNTING")
    why = missing() or (missing(accounting.PROGRAMS) if with_accounting else "")
    if why:
        (pytest.fail if os.environ.get("DEEPCLUST_REQUIRE_SLURM") else pytest.skip)(why)
    cluster = Slurm(tmp_path_factory.mktemp("slurm"), accounting.start_accounting if with_accounting else None)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def empty_queue(slurm, request):
    """No job of one test is there in the next, but both nodes are; where that fails, no further test is run."""
    yield
    try:
        slurm.ask("scancel", "--user", "root", check=False)
        slurm.wait(lambda: is_at_rest(slurm), "an empty queue and idle nodes")
    except AssertionError as error:
        state = "".join(slurm.ask(*words, check=False) for words in (["squeue", "--states=all"], ["sinfo", "--Node"]))
        request.session.shouldfail = f"Slurm is out of order after {request.node.nodeid}: {error}\n{state}"
        raise


def is_at_rest(slurm):
    """Whether there are no jobs and both nodes would take some (one that came back may be called mixed without any)."""
    jobs = slurm.jobs("PENDING,RUNNING,COMPLETING,SUSPENDED")
    return not jobs and all(slurm.node_state(node) in ("idle", "mix") for node in NODES)


@pytest.fixture
def clone(tmp_path, slurm):
    copy_project(tmp_path)
    made = Clone(tmp_path)
    made.configure()
    return made
