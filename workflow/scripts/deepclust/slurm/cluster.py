"""Resources of a Slurm cluster, asked once before the first job is submitted, and whether the jobs fit it.

Slurm itself answers some of these mistakes with a job that waits for ever, and the others once per job and retry.
"""

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deepclust.core.errors import did_you_mean, some_of

TOOLS = ("sbatch", "squeue", "scontrol", "sinfo", "scancel")
UNITS = {"": 1, "K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}


class SlurmError(Exception):
    """Slurm is not there or does not answer; the message is one line."""


@dataclass(frozen=True)
class Request:
    """The request of a rule's jobs."""

    rule: str
    partition: str | None = None
    account: str | None = None
    minutes: int | None = None
    cpus: int = 1
    memory_mb: int | None = None
    last_memory_mb: int | None = None
    """Memory that the last of all attempts asks for."""
    gpus: int = 0
    gpu_model: str | None = None


@dataclass(frozen=True)
class Node:
    """One kind of node of a partition."""

    cpus: int
    memory_mb: int
    gpus: dict[str, int]
    """GPUs by model; model "" if the cluster does not name it."""


@dataclass
class SlurmPartition:
    """A partition and its kinds of nodes."""

    minutes: float
    """Longest time limit; infinity if there is none."""
    nodes: list[Node] = field(default_factory=list)
    cancels: bool = False
    """Jobs that more urgent ones preempt are cancelled (PreemptMode=CANCEL)."""


@dataclass(frozen=True)
class Cluster:
    """Partitions, accounts and settings of a cluster."""

    partitions: dict[str, SlurmPartition]
    default: str | None
    """The partition of jobs that name none; None if it depends on the job."""
    accounting: bool
    accounts: frozenset[str]
    """Accounts of this user; empty if they cannot be known."""
    hosts: frozenset[str] = frozenset()
    """Names of the machines that the nodes are."""
    remembers: float = 300
    """Seconds for which squeue knows a job that has ended (MinJobAge)."""
    requeues: bool = True
    """Jobs that do not say otherwise may be put back into the queue (JobRequeue)."""


@dataclass(frozen=True)
class QueuedJob:
    """A job of this working directory that Slurm knows."""

    id: str
    what: str
    state: str


def require_tools() -> None:
    """Check that Slurm's commands are there.

    Raises:
        SlurmError: one of them is missing.
    """
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise SlurmError(
            f"there is no {absent[0]} on the PATH: start Snakemake on a login node of the cluster, or without "
            "--profile profiles/slurm"
        )


def read_cluster() -> Cluster:
    """Ask Slurm what there is."""
    partitions: dict[str, SlurmPartition] = {}
    default = None
    # Without -e, nodes that differ share a line, which gives the smallest of their numbers.
    for line in _ask("sinfo", "-h", "-a", "-e", "-o", "%P|%l|%c|%m|%M|%G").splitlines():
        name, limit, cpus, memory, preemption, gres = line.split("|")
        if name.endswith("*"):
            name = default = name.rstrip("*")
        partition = partitions.setdefault(name, SlurmPartition(slurm_minutes(limit), cancels="CANCEL" in preemption))
        partition.nodes.append(Node(int(cpus), int(memory), gpus_of(gres)))
    config = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*(\S+)", _ask("scontrol", "show", "config"), re.MULTILINE))
    accounting = config.get("AccountingStorageType", "(null)") not in {"(null)", "accounting_storage/none"}
    hosts = frozenset(_ask("sinfo", "-h", "-a", "-N", "-o", "%n").split())
    return Cluster(
        partitions,
        default,
        accounting,
        accounts=_accounts() if accounting else frozenset(),
        hosts=hosts,
        remembers=float(config.get("MinJobAge", 300)) or float("inf"),  # 0: for ever
        requeues=config.get("JobRequeue") != "0",
    )


def _accounts() -> frozenset[str]:
    try:
        text = _ask("sacctmgr", "-n", "-P", "show", "associations", f"user={getpass.getuser()}", "format=account")
    except SlurmError:
        return frozenset()
    return frozenset(text.split())


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]} does not answer: {error}") from error
    if done.returncode != 0:
        raise SlurmError(f"{command[0]} fails: {' '.join(done.stderr.split())}")
    return done.stdout


def slurm_minutes(limit: str) -> float:
    """Return `1-12:00:00`, `30:00` or `infinite` in minutes."""
    if limit in {"infinite", "UNLIMITED", "n/a"}:
        return float("inf")
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = [0, 0, *map(int, clock.split(":"))][-3:]
    return 1440 * int(days or 0) + 60 * hours + minutes + seconds / 60


def gpus_of(gres: str) -> dict[str, int]:
    """Return `gpu:a100:4(S:0-1),tmpdisk:100` as `{"a100": 4}`; a job's `gpu:2` as `{"": 2}`."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        kind, *rest = item.strip().split(":")
        if kind == "gpu":
            count = int(rest[-1]) if rest and rest[-1].isdecimal() else 1
            model = ":".join(part for part in rest if not part.isdecimal())
            found[model] = found.get(model, 0) + count
    return found


def misfits(requests: Iterable[Request], cluster: Cluster) -> list[str]:
    """Return the requests that the cluster cannot fulfil, one line each: the rules, their request, what there is."""
    rules: dict[str, set[str]] = {}
    for request in dict.fromkeys(requests):
        for problem in _misfits(request, cluster):
            rules.setdefault(problem, set()).add(request.rule)
    return [f"{', '.join(sorted(names))}: {problem}" for problem, names in rules.items()]


def _misfits(request: Request, cluster: Cluster) -> Iterator[str]:
    if request.account and cluster.accounts:
        unknown = [name for name in re.split(r"[,\s]+", request.account) if name.lower() not in cluster.accounts]
        for name in unknown:
            yield f"you have no Slurm account {name}{did_you_mean(name, sorted(cluster.accounts))}"
    if request.account and not cluster.accounting:
        yield f"this cluster keeps no accounts: remove the account ({request.account})"
    everywhere = [cluster.default] if cluster.default else list(cluster.partitions)
    names = [name for name in (request.partition or "").split(",") if name] or everywhere
    unknown = [name for name in names if name not in cluster.partitions]
    for name in unknown:
        yield f"there is no partition {name}{did_you_mean(name, cluster.partitions)}"
    if unknown:
        return
    where = f"partition {','.join(names)}"
    chosen = [cluster.partitions[name] for name in names]
    longest = max(partition.minutes for partition in chosen)
    if request.minutes is not None and request.minutes > longest:
        yield f"a runtime of {request.minutes} minutes is more than {where} allows ({longest:g})"
    nodes = [node for partition in chosen for node in partition.nodes]
    cpus, memory = max(node.cpus for node in nodes), max(node.memory_mb for node in nodes)
    if request.cpus > cpus:
        yield f"{request.cpus} CPUs are more than any node of {where} has ({cpus})"
    if (first := request.memory_mb or 0) > memory:
        yield f"{first} MB of memory are more than any node of {where} has ({memory})"
    elif (last := request.last_memory_mb or 0) > memory:
        yield (
            f"{last} MB of memory, as the last attempt asks for, are more than any node of {where} has ({memory}): "
            f"bound them in the profile, mem_mb: min({first} * attempt, {memory})"
        )
    if request.gpus:
        yield from _gpu_misfits(request, nodes, where)


def _gpu_misfits(request: Request, nodes: list[Node], where: str) -> Iterator[str]:
    models = sorted({model for node in nodes for model in node.gpus if model})
    if request.gpu_model and request.gpu_model not in models:
        known = did_you_mean(request.gpu_model, models)
        yield f"no node of {where} has a GPU {request.gpu_model}{known}"
        return
    per_node = [node.gpus.get(request.gpu_model, 0) if request.gpu_model else sum(node.gpus.values()) for node in nodes]
    if request.gpus > max(per_node):
        kind = f" {request.gpu_model}" if request.gpu_model else ""
        yield f"{request.gpus}{kind} GPUs are more than any node of {where} has ({max(per_node)})"


def queued_jobs(folder: Path, states: str = "all") -> list[QueuedJob]:
    """Return the jobs of Snakemake that were submitted from a working directory, in these states."""
    lines = _ask("squeue", "-h", "-a", "-u", getpass.getuser(), "-t", states, "-o", "%i|%T|%k|%Z").splitlines()
    rows = [line.split("|", 3) for line in lines]
    return [
        QueuedJob(number, what.removeprefix("rule_").replace("_wildcards_", " "), state)
        for number, state, what, path in rows
        if what.startswith("rule_") and Path(path) == folder
    ]


def left_behind(folder: Path) -> list[str]:
    """Return a line of advice on the jobs that an earlier Snakemake left in the queue; nothing if there are none."""
    jobs = queued_jobs(folder, "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED")
    if not jobs:
        return []
    numbers = " ".join(dict.fromkeys(job.id.partition("_")[0] for job in jobs))  # arrays as a whole
    shown = some_of([f"{job.what} ({job.state.lower()})" for job in jobs], 3)
    return [
        f"{len(jobs)} jobs of an earlier Snakemake are still in the queue: {shown}. Wait until they have ended "
        f"(squeue -j {numbers.replace(' ', ',')}) or end them (scancel {numbers}), then start again"
    ]
