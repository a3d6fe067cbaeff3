"""What `snakemake -n` says of why a job would run."""

import copy
import os
import re

import pytest
import yaml
from PIL import Image

from small_experiment import name, snakemake

CHANGED = "Changed since last execution: "


@pytest.fixture
def reasons(dry_runs):
    """Ask for the reasons by job. None is long, and no hash is in any."""

    def ask(config=None, **request):
        found = {name(job): job["reason"] for job in dry_runs(config, **request)}
        assert found and all(reason and len(reason) <= 500 for reason in found.values())
        assert not [reason for reason in found.values() if re.search(r"[0-9a-f]{16}", reason)]
        return found

    return ask


def test_other_seeds(reasons, experiment, project):
    config = copy.deepcopy(experiment) | {"seeds": 3}
    found = reasons(config)
    assert found["write_experiment"] == f"{CHANGED}experiment"
    alone = [reason for job, reason in found.items() if job.startswith("cluster ") and " both " not in job]
    assert len(alone) > 5 and set(alone) == {f"{CHANGED}option seeds ([0, 1], now [0, 1, 2])"}
    (project / "changed.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(project, "-n", "--configfile", "changed.yaml")
    said = re.findall(r"^ *reason: (.*)$", done.stdout + done.stderr, re.IGNORECASE | re.MULTILINE)
    assert set(found.values()) <= set(said)


def test_another_run(reasons, experiment):
    config = copy.deepcopy(experiment)
    config["runs"][0]["k"] = [10, 11]
    assert reasons(config)["list_runs"] == f"{CHANGED}list of runs"


def test_another_image(reasons, project):
    path = project / "shapes" / "ring" / "another.png"
    Image.new("L", (12, 12)).save(path)
    try:
        found = reasons()
    finally:
        path.unlink()
    assert found["prepare shapes train"] == f"{CHANGED}images of shapes"
    assert found["extract_features shapes small train"].startswith("Input files updated by another job: results/data/")


def test_other_weights(reasons, project):
    path = project / "weights.pth"
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content + b"\0")
    os.utime(path, (1, 1))  # an older file, which Snakemake itself would pass over
    try:
        assert reasons()["fetch_weights fetched"].startswith(f"{CHANGED}weights of fetched")
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_option_of_a_head(reasons, experiment):
    config = copy.deepcopy(experiment)
    config["heads"]["kmeans"]["n_init"] = 7
    assert reasons(config)["cluster digits later kmeans 10 held-out"] == f"{CHANGED}option n_init (2, now 7)"


def test_code(reasons, project):
    path = project / "workflow" / "scripts" / "deepclust" / "heads" / "kmeans.py"
    source = path.read_bytes()
    path.write_bytes(source + b"\nMUTATED = True\n")
    try:
        found = reasons()
    finally:
        path.write_bytes(source)
    assert found["cluster shapes small kmeans 3 merged"] == f"{CHANGED}code of heads.kmeans"


def test_what_is_asked_for(reasons):
    assert set(reasons(forceall=True).values()) == {"Forced execution"}
