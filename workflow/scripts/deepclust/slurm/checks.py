"""Mistakes in a profile or in its requests to a cluster, known before the first job starts."""

import math
import os
import re
import shutil
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError, did_you_mean
from deepclust.core.limits import LONGEST_FILE_NAME
from deepclust.core.time_limit import default_checkpoint_seconds
from deepclust.slurm.cluster import (
    Request,
    SlurmError,
    gpus_of,
    left_behind,
    misfits,
    read_cluster,
    require_tools,
)
from deepclust.slurm.preemption import PreemptionWatch, lost_if_preempted

RESUMABLE = frozenset({"pretrain"})  # rules that save their state shortly before the time limit
OTHER_CLUSTERS = ("cluster", "clusters", "slurm_cluster")  # jobs for them are not held against this one
NEVER_SHARED = frozenset({"tmpfs", "ramfs", "overlay"})  # file systems that are surely on one machine only
RESOURCES = (
    *("runtime", "mem_mb", "mem", "disk_mb", "disk", "tmpdir", "gpu", "gpu_model", "gres", "mem_mb_per_cpu"),
    *("slurm_partition", "slurm_account", "slurm_extra", "constraint", "qos", *OTHER_CLUSTERS),
    *("nodes", "tasks", "tasks_per_node", "tasks_per_gpu", "cpus_per_task", "cpus_per_gpu", "mpi", "reservation"),
)


def profile_errors(settings: Any, rules: Iterable[str], scattered: Iterable[str]) -> list[str]:
    """Return the names in a profile that mean nothing, one line each: Snakemake passes over them without a word.

    Args:
        settings: Snakemake's resource settings.
        rules: names of all rules.
        scattered: names of the work that may be done in parts.
    """
    rules, lines = list(rules), []
    for key, mapping in (("set-threads", settings.overwrite_threads), ("set-resources", settings.overwrite_resources)):
        lines += [
            f"{key}.{name}: there is no such rule{did_you_mean(name, rules)}" for name in mapping if name not in rules
        ]
    lines += [
        f"set-scatter.{name}: nothing of that name is done in parts{did_you_mean(name, scattered)}"
        for name in settings.overwrite_scatter
        if name not in scattered
    ]
    named: dict[str, Mapping[str, Any]] = {"default-resources": settings.default_resources or {}}
    named |= {f"set-resources.{rule}": resources for rule, resources in settings.overwrite_resources.items()}
    known = {*RESOURCES, *settings.resources}
    for where, resources in named.items():
        lines += [
            f"{where}.{name}: unknown resource{did_you_mean(name, sorted(known))}"
            for name in resources
            if name not in known and not name.startswith("_")
        ]
    return lines


def folder_errors(folders: Iterable[Path]) -> list[str]:
    """Return one line for each folder for results that cannot be written to."""
    lines = []
    for folder in folders:
        existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            lines.append(f"cannot write to {folder}: make {existing} writable, or choose another --directory")
    return lines


def unshared(folder: Path, hosts: Iterable[str]) -> list[str]:
    """Return why these hosts cannot see a folder of this one, if it lies in this one's memory or container."""
    others = sorted({host.partition(".")[0] for host in hosts} - {socket.gethostname().partition(".")[0]})
    table = Path("/proc/mounts")
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines() if table.exists() else []
    mounts = {Path(line.split()[1]): line.split()[2] for line in lines}  # the last mount at a place is seen
    kind = next((mounts[path] for path in [folder, *folder.parents] if path in mounts), "")
    if not others or kind not in NEVER_SHARED:
        return []
    return [
        f"{folder} is a {kind} of this machine, which {others[0]} cannot see: choose a --directory that nodes share"
    ]


def submit_to_slurm(executor_settings: Any, jobs: Iterable[Any], folder: Path, at_a_time: int) -> list[str]:
    """Make ready to submit `jobs` (Snakemake's) from `folder`; return why that cannot be, one line each.

    If the cluster keeps no accounting, squeue tells the jobs' states, no matter which tools are installed.

    Args:
        at_a_time: jobs that may be in the queue at a time.
    """
    jobs = [job for job in jobs if not job.is_local]
    if not jobs:
        return []
    try:
        require_tools()
        cluster = read_cluster()
        if executor_settings.partition_config or os.environ.get("SNAKEMAKE_SLURM_PARTITIONS"):
            cluster = replace(cluster, default=None)  # each job goes where it fits
        requests = [request_of(job) for job in jobs if not any(job.resources.get(name) for name in OTHER_CLUSTERS)]
        lines = (
            unshared(folder, cluster.hosts)
            + left_behind(folder)
            + misfits(requests, cluster)
            + [line for r in requests for line in _too_short(r)]
            + long_names(jobs)
        )
        lines += _stuck_arrays(executor_settings.array_jobs, requests, at_a_time)
        if executor_settings.no_requeue or not (executor_settings.requeue or cluster.requeues):
            lines += lost_if_preempted(requests, cluster)
        if not lines:
            PreemptionWatch(folder).start(cluster)
    except (SlurmError, DeepclustError) as error:
        return [str(error)]
    if not cluster.accounting:
        executor_settings.status_command = "squeue"
    return list(dict.fromkeys(lines))


def long_names(jobs: Iterable[Any]) -> list[str]:
    """Return jobs that the plugin (2.8.0) cannot submit: it names the folder of a job's log by all its wildcards."""
    named = [(job.rule.name, list(job.wildcards or [])) for job in jobs]
    return [
        f"{rule}: the names {' '.join(names)} together are longer than {LONGEST_FILE_NAME} characters, which Slurm's "
        "logs do not allow: give shorter ones"
        for rule, names in named
        if len("_".join(names)) > LONGEST_FILE_NAME
    ]


def _stuck_arrays(array_jobs: str | None, requests: list[Request], at_a_time: int) -> list[str]:
    """Return arrays that the plugin (2.8.0) waits for without end: Snakemake may not submit all their ready jobs."""
    rules = re.split(r"[,;\s]+", array_jobs or "")
    counts = Counter(request.rule for request in requests if request.rule in rules or "all" in rules)
    return [
        f"{rule}: its {count} jobs may become one array, but only {at_a_time} jobs at a time are allowed in the queue: "
        f"set jobs to {count} or more, or take {rule} out of slurm-array-jobs"
        for rule, count in counts.items()
        if count > at_a_time
    ]


def _too_short(request: Request) -> list[str]:
    interval = default_checkpoint_seconds() / 60
    if request.rule not in RESUMABLE or request.minutes is None or request.minutes > interval:
        return []
    return [
        f"{request.rule}: a runtime of {request.minutes} minutes ends before the first checkpoint, after {interval:g} "
        "minutes: give it more (set-resources in the profile)"
    ]


def request_of(job: Any) -> Request:
    """Return the request to Slurm of a job of Snakemake."""
    first = job.attempt
    job.attempt = 1 + job.restart_times
    last_memory = _count(job.resources.get("mem_mb"))
    job.attempt = first
    resources = job.resources
    wanted = gpus_of(str(resources.get("gres") or "")) or {"": 0}
    model, gpus = next(iter(wanted.items()))
    if isinstance(resources.get("gpu"), int):
        model, gpus = str(resources.get("gpu_model") or ""), resources["gpu"]
    return Request(
        rule=job.rule.name,
        partition=_text(resources.get("slurm_partition")),
        account=_text(resources.get("slurm_account")),
        minutes=_count(resources.get("runtime")),
        cpus=_count(resources.get("cpus_per_task")) or job.threads,
        memory_mb=_count(resources.get("mem_mb")),
        last_memory_mb=last_memory,
        gpus=gpus,
        gpu_model=model or None,
    )


def launcher_errors(launcher: Mapping[str, Any]) -> list[str]:
    """Return what the cluster cannot give of the requests of the section `launcher`, one line each.

    The jobs of these requests are submitted by their rule, which Snakemake would try again in vain.
    """
    installed = shutil.which("sbatch") is not None
    wanted = launcher["method"] == "submitit" and (launcher["cluster"] or ("slurm" if installed else "")) == "slurm"
    if not wanted:
        return []
    if not installed:
        return ["launcher.cluster is slurm, but there is no sbatch on the PATH: start on a login node"]
    if any(name in launcher["sbatch"] for name in OTHER_CLUSTERS):
        return []
    try:
        return misfits([launcher_request(launcher)], read_cluster())
    except SlurmError as error:
        return [str(error)]


def launcher_request(launcher: Mapping[str, Any]) -> Request:
    """Return the request to Slurm, for each node, of a job of the section `launcher`.

    Anything that its option `sbatch` overrides is left out.
    """
    sbatch = {name.replace("_", "-"): value for name, value in launcher["sbatch"].items()}
    processes = launcher["processes_per_node"] or max(launcher["gpus_per_node"], 1)
    wanted = gpus_of(sbatch.get("gres", "")) or {"": launcher["gpus_per_node"]}
    model, gpus = next(iter(wanted.items()))
    if sbatch.keys() & {"gpus", "gpus-per-node", "gpus-per-task"}:
        gpus = 0
    return Request(
        rule="launcher",
        partition=_text(sbatch.get("partition", launcher["partition"])),
        account=_text(sbatch.get("account", launcher["account"])),
        minutes=None if "time" in sbatch else launcher["minutes"],
        cpus=1 if "cpus-per-task" in sbatch else processes * launcher["cpus_per_process"],
        memory_mb=None if "mem" in sbatch else math.ceil(1024 * launcher["memory_gb"]),
        gpus=gpus,
        gpu_model=model or None,
    )


def _text(value: Any) -> str | None:
    return None if value is None else re.sub(r"\s+", "", str(value))


def _count(value: Any) -> int | None:
    """Return a number, unless the resource is not known before the job is ready."""
    return value if isinstance(value, int) else None
