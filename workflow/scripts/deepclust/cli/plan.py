"""Show the jobs that would run, and why, on one screen, with an estimate of GPU time and disk.

    deepclust plan [--profile profiles/slurm] [--configfile experiments/NAME.yaml] [targets]

takes the same words as snakemake, whose own `-n` tells every job (after --configfile, put -- before the targets).
`--images-per-second N` (first) is the speed of pretraining for the estimate; by default it is that of trainings of the
same network that are done here.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from deepclust.cli.dry_run import dry_run
from deepclust.cli.plan_disk import disk_lines
from deepclust.core.errors import some_of
from deepclust.planning.layout import file, rule_of
from deepclust.planning.plan import splits_of
from deepclust.planning.reasons import changes
from deepclust.slurm.checks import request_of

MOST = 3  # reasons named per rule


def reasons(dag: Any, job: Any) -> Iterator[str]:
    """Yield the reasons why a job would run, in a few words each."""
    reason, change = dag.reason(job), dag.workflow.persistence.params_changed(job)
    if reason.forced:
        yield "asked for"
    if reason.missing_output:
        yield "not there yet"
        return
    if reason.incomplete_output:
        yield "left unfinished"
    if change:
        yield from (found.what for found in changes(change, job))
    if reason.software_stack_changed:
        yield "environment changed"
    if reason.updated_input or reason.input_changed:
        yield "input changed"
    if reason.updated_input_run:
        yield "what it reads is made anew"


def job_lines(dag: Any, jobs: list[Any]) -> list[str]:
    """Return a table: rule, number of jobs, why."""
    counts = Counter(job.rule.name for job in jobs)
    why: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        why[job.rule.name].update(reasons(dag, job))
    width = max(map(len, counts), default=0)
    depths: dict[str, int] = {}
    known: dict[Any, int] = {}
    for job in jobs:
        depths[job.rule.name] = max(depths.get(job.rule.name, 0), depth(dag, job, known))
    return [
        f"  {rule:{width}}  {counts[rule]:4}  {shown(why[rule])}" for rule in sorted(depths, key=depths.__getitem__)
    ]


def depth(dag: Any, job: Any, known: dict[Any, int]) -> int:
    """Return the number of steps before a job: jobs that run first come first."""
    if job not in known:
        known[job] = 1 + max((depth(dag, before, known) for before in dag.dependencies[job]), default=0)
    return known[job]


def shown(counter: Counter[str]) -> str:
    return some_of([text for text, _ in counter.most_common()], MOST)


def training_lines(experiment: Any, jobs: list[Any], speed: float | None) -> list[str]:
    """Return how long each pretraining takes at the given or at a measured speed."""
    lines, total, unknown = [], 0.0, 0
    for job in jobs:
        if rule_of(job) != "pretrain":
            continue
        name = job.wildcards.backbone
        options = experiment.config["backbones"][name]
        sizes = splits_of(
            experiment.config["datasets"][options["dataset"]], experiment.plan.dataset_facts(options["dataset"])
        )
        counts = [sizes[split] for split in options["splits"]]
        images = sum(count or 0 for count in counts) if None not in counts else None
        rate, where = (speed, "as given") if speed else measured_speed(options["architecture"])
        told = "an unknown number of" if images is None else f"{images:,}"
        line = f"  {name}: {options['epochs']} epochs of {told} images"
        if rate and images:
            hours = options["epochs"] * images / rate / 3600
            total += hours
            line += f": {hours:.2g} h at {rate:,.0f} images/s ({where})"
        else:
            unknown += 1
        lines.append(line)
    if lines:
        rest = f" and {unknown} of unknown speed (--images-per-second) or number of images" if unknown else ""
        lines.append(f"  {total:.2g} GPU-hours of pretraining{rest}")
    return lines


def measured_speed(architecture: str) -> tuple[float | None, str]:
    """Return the images per second of the newest finished training of a network here."""
    logs = sorted(Path().glob(file("pretrain", "log", backbone="*")), key=lambda path: path.stat().st_mtime)
    for log in reversed(logs):
        model = log.with_name("model.json")
        if model.exists() and json.loads(model.read_text())["architecture"].get("name") == architecture:
            rates = [json.loads(line)["images_per_second"] for line in log.read_text().splitlines()]
            return rates[-1], f"as measured for {log.parent.name}"
    return None, ""


def limit_lines(jobs: Iterable[Any]) -> list[str]:
    """Return the GPU-hours that the time limits of the profile allow, one attempt of each job."""
    requests = [request_of(job) for job in jobs]
    hours = sum(request.gpus * (request.minutes or 0) / 60 for request in requests)
    return [f"  at most {hours:,.0f} GPU-hours by the profile's time limits"] if hours else []


def experiment_of(workflow: Any) -> Any:
    """Return the experiment of Snakemake's workflow, or of the module of that workflow that is this project."""
    modules = [vars(value) for value in workflow.globals.values() if isinstance(value, ModuleType)]
    return next(names["JOBS"].parameters for names in (workflow.globals, *modules) if "JOBS" in names)


def main() -> int:
    """Run `deepclust plan`."""
    parser = argparse.ArgumentParser(
        "deepclust plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images-per-second", type=float, help="speed of pretraining to reckon with")
    own, words = parser.parse_known_args()
    with dry_run(words) as workflow:
        dag = workflow.dag
        experiment = experiment_of(workflow)
        jobs = [job for job in dag.needrun_jobs(exclude_finished=False) if job.output]
        print(f"{len(jobs)} jobs would run", *job_lines(dag, jobs), sep="\n")
        gpu = training_lines(experiment, jobs, own.images_per_second) + limit_lines(jobs)
        for title, lines in (("GPU", gpu), ("Disk", disk_lines(experiment, jobs))):
            if lines:
                print(title, *lines, sep="\n")
    return 0
