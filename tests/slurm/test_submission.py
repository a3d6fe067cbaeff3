"""What Slurm is asked for, read from Slurm itself: the nodes are drained, so that jobs wait in the queue."""

import json
import os
import shutil
import signal
import time

import pytest

from clones import EXPERIMENT, Clone
from small_experiment import copy_project

TARGETS = (
    "results/features/digits/pixels/train/features.npy",
    "results/backbones/simclr/model.json",
)


@pytest.fixture(scope="module")
def prepared(slurm, tmp_path_factory):
    """A clone whose images are prepared."""
    clone = Clone(tmp_path_factory.mktemp("prepared"))
    copy_project(clone.folder)
    clone.configure()
    images = [f"results/data/digits/{split}/images.bin" for split in ("train", "test")]
    done = clone.run("--executor", "local", "--cores", "2", "--", *images, "results/backbones/pixels/model.json")
    assert done.returncode == 0, done.stderr[-3000:]
    return clone


@pytest.fixture
def drained(slurm, prepared, tmp_path):
    """A copy of it, and nodes that take no further jobs."""
    shutil.copytree(prepared.folder, tmp_path / "clone")
    slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=DRAIN", "Reason=test")
    yield Clone(tmp_path / "clone")
    slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=RESUME", check=False)  # unless the test did


def submitted(slurm, clone, rules, *words):
    """What Slurm knows of the one job of each rule, as it waits in the queue."""
    driver = clone.start(*words, "--", *TARGETS)
    try:
        slurm.wait(lambda: all(slurm.job_of(rule, "PENDING") for rule in rules) or driver.poll(), f"jobs {rules}")
        jobs = {rule: slurm.job_of(rule, "PENDING") for rule in rules}
        assert all(jobs.values()), clone.said()[-3000:]
        return {rule: slurm.details(job["id"]) for rule, job in jobs.items()}
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        slurm.ask("scancel", "--user", "root")


def test_as_shipped(slurm, drained):
    jobs = submitted(slurm, drained, ("pretrain", "extract_features"))
    for job in jobs.values():
        assert job["TresPerNode"] == "gres:gpu:1" and "TresPerJob" not in job
        assert job["Partition"] == "main" and job["Requeue"] == "1" and job["NumNodes"] == "1"
        assert job["JobName"].startswith("deepclust_") and job["MinMemoryNode"] == "32000M"
    assert jobs["pretrain"]["TimeLimit"] == "12:00:00" and jobs["extract_features"]["TimeLimit"] == "01:00:00"
    assert jobs["pretrain"]["Comment"] == "rule_pretrain_wildcards_simclr"


def test_gpus_instead_of_gres_switched_in_one_place(slurm, drained):
    drained.edit_profile(
        ('gres: "gpu:1"', "# gres"), ("# gpu: 1", "gpu: 1"), ("# gpu_model: a100", "gpu_model: large"),
        ("# slurm_partition: gpu ", "slurm_partition: gpu "), ('# constraint: "a100|h100"', 'constraint: "new|old"'),
    )  # fmt: skip
    jobs = submitted(slurm, drained, ("pretrain", "extract_features"))
    for job in jobs.values():
        assert job["TresPerJob"] == "gres:gpu:large:1" and "TresPerNode" not in job
        assert job["Partition"] == "gpu" and job["Features"] == "new|old"


def test_model_as_gres(slurm, drained):
    drained.edit_profile(('gres: "gpu:1"', 'gres: "gpu:small:1"'))
    assert submitted(slurm, drained, ("pretrain",))["pretrain"]["TresPerNode"] == "gres:gpu:small:1"


def test_partition_file(slurm, drained):
    (drained.folder / "profiles" / "slurm" / "partitions.yaml").write_text(
        "partitions:\n  urgent: {max_runtime: 60, max_gpu: 1}\n  main: {max_runtime: 1440, max_gpu: 1}\n"
    )
    drained.edit_profile(("# slurm-partition-config", "slurm-partition-config"))
    jobs = submitted(slurm, drained, ("pretrain", "extract_features"))
    assert jobs["pretrain"]["Partition"] == "main"


def test_code_edited_while_the_job_waits(slurm, drained):
    """The job plans again on its node; what it was submitted with counts."""
    target = "results/backbones/simclr/model.json"
    driver = drained.start("--retries", "0", "--", target)
    slurm.wait(lambda: slurm.job_of("pretrain", "PENDING"), "the job to wait")
    method = drained.folder / "workflow" / "scripts" / "deepclust" / "pretraining" / "simclr.py"
    method.write_text(method.read_text() + "\nEDITED = True\n")
    slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=RESUME")
    assert driver.wait(200) == 1
    assert "the code of pretrain changed after this job was planned" in drained.said()
    assert not (drained.folder / target).exists()


def test_experiment_edited_while_the_job_waits(slurm, drained):
    target = "results/features/digits/pixels/train/features.npy"
    driver = drained.start("--", target)
    slurm.wait(lambda: slurm.job_of("extract_features", "PENDING"), "the job to wait")
    drained.configure(EXPERIMENT.replace("method: pixels", "method: pixels\n    features: {dtype: float32}"))
    slurm.ask("scontrol", "update", "NodeName=node1,node2", "State=RESUME")
    assert driver.wait(200) == 0
    record = json.loads((drained.folder / target).with_name("features.provenance.json").read_text())
    assert record["options"]["dtype"] == "float16"
    drained.configure()
    again = drained.run("-n", "--", target)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_many_heads_are_one_submission(slurm, clone):
    heads = "\n".join(f"  kmeans{n}: {{method: kmeans, n_init: {n}}}" for n in range(1, 6))
    text = EXPERIMENT.replace("  kmeans:\n    method: kmeans", heads).replace(
        "[kmeans]", "[kmeans1, kmeans2, kmeans3, kmeans4, kmeans5]"
    )
    clone.configure(text.replace("[pixels, simclr]", "[pixels]"))
    done = clone.run("--executor", "local", "--cores", "2", "--until", "extract_features")
    assert done.returncode == 0, done.stderr[-3000:]
    done = clone.run("--jobs", "3", "--until", "cluster")  # the plugin would wait for ever
    assert done.returncode == 1 and "cluster: its 5 jobs may become one array, but only 3 jobs" in done.stderr
    done = clone.run("--until", "cluster")
    assert done.returncode == 0, done.stderr[-5000:]
    assert len(list((clone.folder / "results" / "clustering").rglob("clusters.safetensors"))) == 5
    (array,) = {job["id"].partition("_")[0] for job in slurm.jobs() if str(clone.folder) == job["folder"]}
    assert {job["id"] for job in slurm.jobs()} >= {f"{array}_{task}" for task in range(1, 6)}


def test_features_in_parts(slurm, prepared, tmp_path):
    """Each part is a job with a GPU of its own; together they are what one job makes."""
    shutil.copytree(prepared.folder, tmp_path / "clone")
    clone = Clone(tmp_path / "clone")
    target = clone.folder / TARGETS[0]
    done = clone.run("--executor", "local", "--cores", "1", "--", TARGETS[0])
    assert done.returncode == 0, done.stderr[-3000:]
    expected = target.read_bytes()
    shutil.rmtree(target.parent)
    clone.edit_profile(("# set-scatter:", "set-scatter:"), ("#   extract_features: 8", "  extract_features: 2"))
    done = clone.run("--", TARGETS[0])
    assert done.returncode == 0, done.stderr[-5000:]
    assert target.read_bytes() == expected
    jobs = [job for job in slurm.jobs() if job["folder"] == str(clone.folder)]
    parts = [job for job in jobs if "_" in job["id"]]
    assert len(parts) == 2 and len({job["id"].partition("_")[0] for job in parts}) == 1, "one array"
    assert len(jobs) == 3 and all("gpu" in job["gres"] for job in jobs)


def test_two_hundred_heads_are_few_submissions(slurm, drained):
    """Snakemake hands over 100 jobs at a time, and each time is one array."""
    heads = {f"kmeans{number}": {"method": "kmeans", "n_init": number} for number in range(1, 201)}
    run = {"dataset": "digits", "backbones": ["pixels"], "heads": list(heads), "k": 10}
    pixels = {"pixels": {"method": "pixels"}}
    datasets = {"digits": {"loader": "digits"}}
    drained.configure(json.dumps({"datasets": datasets, "backbones": pixels, "heads": heads, "runs": [run]}))
    done = drained.run("--executor", "local", "--cores", "2", "--until", "extract_features")
    assert done.returncode == 0, done.stderr[-3000:]
    start = time.monotonic()
    driver = drained.start("--until", "cluster")
    try:
        slurm.wait(lambda: len(tasks(slurm)) == 200 or driver.poll() is not None, "all heads", seconds=200)
        print(f"200 heads were in the queue after {time.monotonic() - start:.1f} s")
        assert len({task.partition("_")[0] for task in tasks(slurm)}) == 2
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        slurm.ask("scancel", "--user", "root")


def tasks(slurm):
    """All tasks of arrays that wait."""
    return [task for task in slurm.ask("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").split() if "_" in task]
