"""The default experiment through the shipped profile, on nodes that cannot reach the internet."""

import io
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request

import pytest

from clones import EXPERIMENT, Clone
from small_experiment import copy_project


@pytest.fixture(scope="module")
def done(slurm, tmp_path_factory):
    """A clone that has run from images to report, and what Slurm knows about its jobs."""
    clone = Clone(tmp_path_factory.mktemp("done"))
    copy_project(clone.folder)
    clone.configure()
    finished = clone.run()
    assert finished.returncode == 0, finished.stderr[-6000:]
    clone.jobs = [job for job in slurm.jobs() if job["folder"] == str(clone.folder)]
    return clone


def test_from_clone_to_report(done):
    assert (done.folder / "results" / "report.html").stat().st_size > 10_000
    assert "simclr" in (done.folder / "results" / "leaderboard.csv").read_text()
    assert {job["state"] for job in done.jobs} == {"COMPLETED"}
    rules = {job["comment"].removeprefix("rule_").split("_wildcards")[0] for job in done.jobs}
    assert rules >= {"prepare", "pretrain", "extract_features", "find_neighbors", "cluster", "evaluate", "plot_run"}


def test_jobs_never_share_a_gpu(slurm, done):
    """Each node has one: jobs that have one at the same time are on different nodes."""
    spans = []
    for job in done.jobs:
        if "gpu" in job["gres"]:
            times = (slurm.details(job["id"])[key] for key in ("StartTime", "EndTime"))
            spans.append((job["node"], *(time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) for text in times)))
    assert len(spans) == 5 and {node for node, _, _ in spans} == {"node1", "node2"}
    for number, (node, start, end) in enumerate(spans):
        for other, other_start, other_end in spans[:number]:
            assert node != other or start >= other_end or end <= other_start


def test_a_changed_head_option_reruns_only_heads(slurm, done):
    done.configure(EXPERIMENT.replace("method: kmeans", "method: kmeans\n    n_init: 1"))
    again = done.run()
    assert again.returncode == 0, again.stderr[-5000:]
    known = {job["id"] for job in done.jobs}
    new = [job for job in slurm.jobs() if job["folder"] == str(done.folder) and job["id"] not in known]
    rules = {job["comment"].removeprefix("rule_").split("_wildcards")[0] for job in new}
    assert rules == {"cluster", "evaluate", "plot_run"}
    assert len({job["id"].partition("_")[0] for job in new if "cluster" in job["comment"]}) == 1, "an array of two"


def cifar_archive(path):
    """An archive in the form of CIFAR-10: all images black."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            content = b"".join(bytes([number % 10]) + bytes(3072) for number in range(10_000))
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


CIFAR = """
datasets:
  cifar: {{loader: cifar10, source: "{address}/cifar.tar.gz", sha256: any}}
  unused: {{loader: cifar10, source: "{address}/other.tar.gz", sha256: any}}
backbones:
  pixels: {{method: pixels}}
heads:
  kmeans: {{method: kmeans}}
runs:
  - {{dataset: cifar, backbones: [pixels], heads: [kmeans], k: 10}}
"""


def test_prefetch_then_no_network(slurm, clone, tmp_path):
    """The login node downloads what the experiment needs, and only that; the jobs do without."""
    (tmp_path / "www").mkdir()
    cifar_archive(tmp_path / "www" / "cifar.tar.gz")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", address.rpartition(":")[2], "--bind", "127.0.0.1"],
        cwd=tmp_path / "www",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=slurm.outside,
    )
    try:
        clone.configure(CIFAR.format(address=address))
        fetched = clone.run("--executor", "local", "--cores", "1", "prefetch", preexec=slurm.outside)
        assert fetched.returncode == 0, fetched.stderr[-3000:]
        size = (tmp_path / "www" / "cifar.tar.gz").stat().st_size
        announced = fetched.stderr.index("To download: cifar-10-binary.tar.gz (")
        assert f"({size / 1e6:.3g} MB)" in fetched.stderr[announced : announced + 80]
        assert announced < fetched.stderr.index("Download cifar-10-binary.tar.gz")
        assert len(list((clone.folder / "resources" / "downloads").rglob("*.tar.gz"))) == 1

        with pytest.raises(OSError):
            urllib.request.urlopen(address, timeout=5)
        prepared = clone.run("--", "results/data/cifar/train/images.bin", "results/data/cifar/test/images.bin")
        assert prepared.returncode == 0, prepared.stderr[-3000:]
        assert "To download" not in prepared.stderr
    finally:
        server.kill()
        server.wait()
