"""The small experiment, run for real once; every workflow test looks at it or at copies of it."""

import os
from pathlib import Path

import pytest
import yaml

from small_experiment import EXPERIMENT, DryRuns, copy_project, draw_shapes, snakemake, write_weights


def pytest_itemcollected(item):
    """Tests that share a project, which takes minutes to make, run in one process while another runs the others."""
    item.add_marker(pytest.mark.xdist_group("project" if "project" in item.fixturenames else item.path.stem))
    item.add_marker(pytest.mark.timeout(1500))


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A clone of the project in which the small experiment has run.

    DEEPCLUST_TEST_PROJECT names a folder to keep between test runs; Snakemake then brings it up to date.
    """
    kept = os.environ.get("DEEPCLUST_TEST_PROJECT")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("project")
    copy_project(folder)
    if not (folder / "shapes").exists():
        draw_shapes(folder / "shapes")
    if not (folder / "weights.pth").exists():
        write_weights(folder / "weights.pth")
    (folder / "small.yaml").write_text(EXPERIMENT)
    done = snakemake(folder, "--cores", "2", "--configfile", "small.yaml", timeout=1400)
    assert done.returncode == 0, done.stderr[-6000:]
    (folder / "output.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def experiment():
    """The small experiment as a dict; the fixture's files hold the same."""
    return yaml.safe_load(EXPERIMENT)


@pytest.fixture(scope="session")
def dry_runs(project):
    runs = DryRuns(project)
    yield runs
    runs.close()
