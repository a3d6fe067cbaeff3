"""Parameters and command lines of jobs: how the experiment, the files and the code reach a command.

Snakemake records the parameters of a job and makes its results anew when one of them changes. These are the code of the
command, its options, and the states of files that Snakemake does not watch. The command line is not recorded, because
its function asks for `input`: the places of files, or the size of the memory, change no result.
"""

import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deepclust.core.figures import figures
from deepclust.core.files import json_digest
from deepclust.core.fingerprint import SCRIPTS, code_digest, code_params
from deepclust.planning.graph import JobGraph
from deepclust.planning.layout import CHECKSUM, file
from deepclust.planning.parameters import Flags, Parameters
from deepclust.slurm.cluster import gpus_of

Wildcards = Any  # Snakemake's, whose attributes are strings
Named = Any  # Snakemake's inputs, outputs or resources

COMMAND = "python {params.command} --progress {log}.progress --provenance {output.provenance} > {log} 2>&1"
"""The shell of every rule."""


def command_files(kind: str, named: Mapping[str, Any]) -> Iterator[str]:
    """Yield `--input.features a.npy b.npy` for every name that has files, and lists of files as `@list`."""
    lists = {Path(path).stem: path for path in named.get("lists", [])}
    for name, value in named.items():
        paths = [value] if isinstance(value, str) else list(value)
        if name in lists:
            yield f"--{kind}.{name} @{shlex.quote(lists[name])}"
        elif paths and name not in {"provenance", "lists"}:
            yield f"--{kind}.{name} {' '.join(map(shlex.quote, paths))}"


def requested(resources: Mapping[str, Any]) -> Iterator[str]:
    """Yield time limit and memory of a job, as far as a profile sets them and they are known yet."""
    for flag, value in {"minutes": resources.get("runtime"), "memory_mb": resources.get("mem_mb")}.items():
        if isinstance(value, int):
            yield f"--{flag} {value}"


def shown(path: Path) -> str:
    """Return a path as short as the working directory allows."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def other_parts(parts: Mapping[str, Sequence[str]], wanted: int) -> list[str]:
    """Say which features are made again in another number of parts than the profile wants.

    Args:
        parts: the records of the parts that features are put together from, by the features' file.
    """
    made = {features: max(len(records), 1) for features, records in parts.items()}
    return [
        f"{features} is made again in parts as before: {before}, not {wanted} as set-scatter says; "
        "remove it to have it otherwise"
        for features, before in made.items()
        if before != wanted
    ]


class Jobs:
    """The jobs of one experiment.

    Attributes:
        digests: digests of code by command and methods; in a job that plans again, those that it was planned with.
    """

    def __init__(self, parameters: Parameters, graph: JobGraph, digests: dict[str, str]) -> None:
        self.parameters = parameters
        self.graph = graph
        self.digests = digests
        self._listings = functools.cache(parameters.listings)
        self._fingerprint = functools.cache(code_params)

    def params(self, rule: str) -> dict[str, Any]:
        """Return the parameters of a rule, constants and functions of Snakemake's names for a job's properties."""
        # All code is one parameter: of many, Snakemake handles every one for every job.
        params: dict[str, Any] = {"code": self._fingerprint(rule)}
        if rule in METHODS:
            params["code"] = lambda wildcards: self._fingerprint(rule, self._methods(rule, wildcards))
        if rule in OPTIONS:
            params["options"] = functools.partial(self._options, rule)
        if rule in STATES:
            params["states"] = functools.partial(self.states, rule)
        return {**params, "command": functools.partial(self._command, rule)}

    def digest(self, rule: str, methods: Sequence[str]) -> str:
        """Return one digest over the code of a command with these methods."""
        name = " ".join([rule, *methods])
        if name not in self.digests:
            self.digests[name] = code_digest(rule, methods)
        return self.digests[name]

    def _methods(self, rule: str, wildcards: Wildcards) -> tuple[str, ...]:
        return METHODS[rule](self.parameters, wildcards) if rule in METHODS else ()

    def _options(self, rule: str, wildcards: Wildcards) -> Flags:
        return OPTIONS[rule](self, wildcards)

    def states(self, rule: str, wildcards: Wildcards) -> list[str]:
        """Return digests of everything that a rule's job depends on beside its code and its options."""
        return STATES[rule].digests(self, wildcards)

    def _command(
        self, rule: str, wildcards: Wildcards, input: Named, output: Named, threads: int, resources: Named
    ) -> str:
        words: list[Any] = [shlex.quote(shown(SCRIPTS / f"{rule}.py"))]
        words.append(f"--code {self.digest(rule, self._methods(rule, wildcards))}")
        words.append(f"--threads {threads}")
        words += [*command_files("input", input), *command_files("output", output), *requested(resources)]
        words += self._unrecorded(rule, wildcards, resources)
        words += [self._options(rule, wildcards)] if rule in OPTIONS else []
        return " ".join(filter(None, map(str, words)))

    def _unrecorded(self, rule: str, wildcards: Wildcards, resources: Named) -> Iterable[str]:
        """Yield further arguments of a command, which belong to the run of a job and not to its result."""
        if rule == "download":
            yield f"--pin {shlex.quote(CHECKSUM.format(file=wildcards.file))}"
        if rule == "extract_part":
            names = {name: getattr(wildcards, name) for name in ("dataset", "backbone", "split")}
            yield f"--part {wildcards.scatteritem}"
            yield f"--features {shlex.quote(file('extract_features', 'features', **names))}"
        if rule == "pretrain":
            state = self.parameters.config["backbones"][wildcards.backbone]["resume_from"]
            yield f"--resume_from {shlex.quote(state)}" if state else ""
            gpus = resources.get("gpu") or sum(gpus_of(str(resources.get("gres") or "")).values())
            processes = f"--processes {gpus}" if isinstance(gpus, int) and gpus > 0 else ""
            yield str(self.parameters.launcher()) or processes


def _run(jobs: Jobs, wildcards: Wildcards) -> Any:
    return jobs.graph.run(**dict(wildcards.items()))


METHODS: dict[str, Callable[[Parameters, Wildcards], tuple[str, ...]]] = {
    "prepare": lambda parameters, w: (parameters.loader_module(w.dataset),),
    "pixels": lambda parameters, w: (parameters.backbone_module(w.backbone),),
    "fetch_weights": lambda parameters, w: (parameters.backbone_module(w.backbone),),
    "pretrain": lambda parameters, w: (parameters.backbone_module(w.backbone),),
    "cluster": lambda parameters, w: (parameters.head_module(w.head),),
    "plot_run": lambda parameters, w: tuple(figure.module for figure in figures("run").values()),
    "plot_setting": lambda parameters, w: (figures()[w.figure].module,),
    "plot_experiment": lambda parameters, w: (figures()[w.figure].module,),
}
"""The modules that a command loads by name."""

OPTIONS: dict[str, Callable[[Jobs, Wildcards], Flags]] = {
    "download": lambda jobs, w: jobs.parameters.download(f"{w.key}/{w.file}"),
    "prepare": lambda jobs, w: jobs.parameters.prepare(w.dataset, w.split),
    "pixels": lambda jobs, w: jobs.parameters.backbone(w.backbone),
    "fetch_weights": lambda jobs, w: jobs.parameters.backbone(w.backbone),
    "pretrain": lambda jobs, w: jobs.parameters.backbone(w.backbone),
    "extract_part": lambda jobs, w: jobs.parameters.extract_features(w.backbone),
    "extract_features": lambda jobs, w: jobs.parameters.extract_features(w.backbone),
    "find_neighbors": lambda jobs, w: jobs.parameters.find_neighbors(w.dataset, w.backbone, w.split, w.kind),
    "choose_k": lambda jobs, w: jobs.parameters.choose_k(w.dataset, w.backbones.split("+"), w.protocol),
    "cluster": lambda jobs, w: jobs.parameters.cluster(_run(jobs, w)),
    "probe": lambda jobs, w: jobs.parameters.probe(),
    "score_snapshots": lambda jobs, w: jobs.parameters.score_snapshots(),
    "probe_layers": lambda jobs, w: jobs.parameters.probe_layers(),
    "evaluate": lambda jobs, w: jobs.parameters.evaluate(_run(jobs, w)),
    "project_map": lambda jobs, w: jobs.parameters.report("map", score=jobs.graph.scored(w.dataset, w.protocol)),
    "plot_run": lambda jobs, w: jobs.parameters.figures(figures("run"), score=jobs.graph.scored(w.dataset, w.protocol)),
    "plot_setting": lambda jobs, w: jobs.parameters.figures([w.figure], figure=w.figure),
    "plot_experiment": lambda jobs, w: jobs.parameters.figures([w.figure], figure=w.figure),
    "report_page": lambda jobs, w: jobs.parameters.report("page"),
}
"""The options of a job, as the experiment has them."""


class Watched(NamedTuple):
    """Something that a job depends on beside its code and its options.

    Attributes:
        what: its name in words, with the wildcards of the job.
        digests: texts that tell it from earlier or later ones; short, because Snakemake records them with every output.
    """

    what: str
    digests: Callable[[Jobs, Wildcards], list[str]]


STATES: dict[str, Watched] = {
    "download": Watched("source of {file}", lambda jobs, w: jobs.parameters.local_sources(f"{w.key}/{w.file}")),
    "prepare": Watched("images of {dataset}", lambda jobs, w: jobs._listings(w.dataset)),
    "fetch_weights": Watched("weights of {backbone}", lambda jobs, w: jobs.parameters.weights_states(w.backbone)),
    "list_runs": Watched("list of runs", lambda jobs, w: [json_digest(jobs.graph.lists())]),
    "write_experiment": Watched("experiment", lambda jobs, w: [json_digest(jobs.parameters.config)]),
}
"""The user's files, since Snakemake sees only newer ones, and texts that are too long to be parameters."""
