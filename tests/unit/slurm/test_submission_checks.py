import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepclust.pretraining.launch.launcher_options import LauncherOptions
from deepclust.slurm.checks import (
    folder_errors,
    launcher_errors,
    launcher_request,
    long_names,
    profile_errors,
    request_of,
    unshared,
)
from deepclust.slurm.cluster import Request


def settings(threads=None, resources=None, default=None, limits=None, scatter=None):
    return SimpleNamespace(
        overwrite_scatter=scatter or {},
        overwrite_threads=threads or {},
        overwrite_resources=resources or {},
        default_resources=default,
        resources=limits or {},
    )


def job(threads=1, **resources):
    rule = SimpleNamespace(name="pretrain")
    return SimpleNamespace(rule=rule, threads=threads, resources=resources, attempt=1, restart_times=3)


class Growing:
    """A job of Snakemake whose memory grows with its attempts."""

    rule, threads, attempt, restart_times = SimpleNamespace(name="pretrain"), 1, 1, 3

    @property
    def resources(self):
        return {"mem_mb": 32_000 * self.attempt}


def test_names_that_a_profile_misspells():
    wrong = settings(
        threads={"pretrian": 2, "cluster": 2},
        resources={"cluster": {"mem_mb": 1, "gers": "gpu:1"}},
        default={"runtme": 3, "tmpdir": "/tmp"},
    )
    assert profile_errors(wrong, ["pretrain", "cluster"], ["extract_features"]) == [
        "set-threads.pretrian: there is no such rule; did you mean 'pretrain'?",
        "default-resources.runtme: unknown resource; did you mean 'runtime'?",
        "set-resources.cluster.gers: unknown resource; did you mean 'gres'?",
    ]


def test_a_resource_of_ones_own_is_known_where_it_is_limited():
    own = {"cluster": {"licenses": 1}}
    assert profile_errors(settings(resources=own, limits={"licenses": 4}), ["cluster"], []) == []
    assert len(profile_errors(settings(resources=own), ["cluster"], [])) == 1


def test_folders_are_judged_by_what_is_there(tmp_path):
    (tmp_path / "file").write_text("")
    assert folder_errors([tmp_path, tmp_path / "not" / "yet"]) == []
    (line,) = folder_errors([tmp_path / "file" / "results"])
    assert line.startswith(f"cannot write to {tmp_path / 'file' / 'results'}")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, Request("pretrain")),
        ({"gres": "gpu:a100:2"}, Request("pretrain", gpus=2, gpu_model="a100")),
        ({"gres": "gpu:1"}, Request("pretrain", gpus=1)),
        ({"gpu": 2, "gpu_model": "a100"}, Request("pretrain", gpus=2, gpu_model="a100")),
        (
            {"slurm_partition": "gpu, cpu", "slurm_account": 17, "runtime": 60, "mem_mb": "<TBD>"},
            Request("pretrain", "gpu,cpu", "17", 60),
        ),
        ({"cpus_per_task": 8}, Request("pretrain", cpus=8)),
    ],
)
def test_what_a_job_asks_for(resources, expected):
    assert request_of(job(**resources)) == expected


def test_the_memory_of_the_last_attempt_is_known():
    growing = Growing()
    assert request_of(growing) == Request("pretrain", memory_mb=32_000, last_memory_mb=128_000)
    assert growing.attempt == 1


def test_threads_are_cpus():
    assert request_of(job(threads=4)).cpus == 4


def test_names_that_are_too_long_for_logs_on_slurm():
    short, long = (SimpleNamespace(rule=SimpleNamespace(name="cluster"), wildcards=["a", n * "b"]) for n in (253, 254))
    assert long_names([short, SimpleNamespace(rule=short.rule, wildcards=None)]) == []
    (line,) = long_names([short, long])
    assert line.startswith("cluster: ") and "255" in line


def test_memory_of_this_machine_is_not_shared_with_others():
    memory = Path("/dev/shm")
    if "tmpfs" not in subprocess.run(["stat", "-f", "-c", "%T", memory], capture_output=True, text=True).stdout:
        pytest.skip("/dev/shm is no tmpfs")
    here = socket.gethostname()
    (line,) = unshared(memory / "results", [here, "node7.cluster.org"])
    assert "tmpfs" in line and "node7 cannot see" in line
    assert unshared(memory, [here]) == unshared(memory, [f"{here}.cluster.org"]) == []
    assert unshared(Path("/proc"), ["node7"]) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Request("launcher", None, None, 720, 8, 65_536, gpus=1)),
        ({"gpus_per_node": 4, "partition": "gpu"}, Request("launcher", "gpu", None, 720, 32, 65_536, gpus=4)),
        ({"gpus_per_node": 0, "processes_per_node": 3}, Request("launcher", None, None, 720, 24, 65_536)),
        (
            {"gpus_per_node": 4, "sbatch": {"gres": "gpu:a100:4"}},
            Request("launcher", None, None, 720, 32, 65_536, gpus=4, gpu_model="a100"),
        ),
        (
            {"account": "me", "sbatch": {"account": "us", "time": "2:00:00", "mem": "0", "cpus_per_task": "2"}},
            Request("launcher", None, "us", None, 1, None, gpus=1),
        ),
    ],
)
def test_what_the_launcher_asks_for(options, expected):
    assert launcher_request(LauncherOptions(**options).model_dump()) == expected


def test_the_launcher_is_held_against_the_cluster_where_it_submits(tmp_path, monkeypatch):
    """The answers are those of a cluster whose nodes have 2 GPUs each; it keeps no accounts."""
    answers = {"sinfo": "case $* in *%G*) echo 'main*|infinite|64|256000|OFF|gpu:2';; *) echo node1;; esac"}
    answers |= dict.fromkeys(["sbatch", "scontrol"], ":")
    for name, program in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)

    def errors(**options):
        return launcher_errors(LauncherOptions(**options).model_dump())

    monkeypatch.setenv("PATH", "/nowhere")
    assert errors(method="submitit", gpus_per_node=3) == []
    assert len(errors(method="submitit", cluster="slurm")) == 1
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert errors(method="submitit", gpus_per_node=3) == [
        "launcher: 3 GPUs are more than any node of partition main has (2)"
    ]
    assert errors(method="submitit", gpus_per_node=2) == errors(gpus_per_node=3) == []
    assert errors(method="submitit", cluster="local", gpus_per_node=3) == []
