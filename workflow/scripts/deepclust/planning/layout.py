"""The one table of paths: the outputs and logs of every rule, with the wildcards of its jobs.

The inputs of jobs are in `planning/graph.py`. Both know a file as `File`, a path that knows the job that writes it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepclust.core.figures import figures
from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.run_path import RUN
from deepclust.planning.experiment_options import NAME_PATTERN, PROTOCOLS

NAME = NAME_PATTERN.strip("^$")
SPLIT = "train|test|unlabeled"
SETTING = "{dataset}/{backbones}/{protocol}"

WILDCARDS = {
    "dataset": NAME,
    "split": SPLIT,
    "backbone": NAME,
    "backbones": f"{NAME}(\\+{NAME})*",
    "head": NAME,
    "k": "[0-9]+|auto",
    "protocol": "|".join(PROTOCOLS),
}
SPLITS_READ_TOGETHER = f"({SPLIT})(\\+({SPLIT}))*"


@dataclass(frozen=True)
class RuleFiles:
    """The patterns of one rule's outputs.

    Attributes:
        place: the part of their logs' path that tells its jobs apart; empty: there is one job.
        outputs: patterns by the name of the output.
        record_alone: the record alone stands for a job, because a user may have removed its other, large results.
    """

    place: str
    outputs: Mapping[str, str]
    record_alone: bool = False


CHECKSUM = "resources/checksums/{file}.sha256"
"""The pattern of the file that holds the checksum of a first download; a new download must not lose it."""


def below(folder: str, **files: str) -> dict[str, str]:
    """Return the patterns of files in a folder."""
    return {name: f"{folder}/{file}" for name, file in files.items()}


_BACKBONE = "results/backbones/{backbone}"
_MODEL = below(_BACKBONE, model="model.json", weights="model.safetensors", provenance="model.provenance.json")
_DATA = "results/data/{dataset}/{split}"
_FEATURES = "results/features/{dataset}/{backbone}/{split}"
_CLUSTERING = "results/clustering"
_EVALUATION = "results/evaluation"
_REPORT = "results/report"


def _figure(folder: str) -> dict[str, str]:
    return below(folder, figure="{figure}.png", provenance="{figure}.provenance.json")


RULES: dict[str, RuleFiles] = {
    "download": RuleFiles(
        "{key}/{file}", below("resources/downloads/{key}", archive="{file}", provenance="{file}.provenance.json")
    ),
    "prepare": RuleFiles(
        "{dataset}/{split}",
        below(_DATA, images="images.bin", manifest="images.json", provenance="images.provenance.json")
        | below("results/labels/{dataset}/{split}", labels="labels.npy", classes="classes.json", ids="ids.csv"),
        record_alone=True,
    ),
    "pixels": RuleFiles("{backbone}", _MODEL, record_alone=True),
    "fetch_weights": RuleFiles("{backbone}", _MODEL, record_alone=True),
    "pretrain": RuleFiles(
        "{backbone}",
        _MODEL
        | below(
            _BACKBONE,
            native="native.safetensors",
            log="training.jsonl",
            tensorboard="tensorboard",
            snapshots="snapshots",
        ),
        record_alone=True,
    ),
    "extract_part": RuleFiles(
        "{dataset}/{backbone}/{split}/{scatteritem}",
        below(f"{_FEATURES}/parts", provenance="{scatteritem}.provenance.json"),
    ),
    "extract_features": RuleFiles(
        "{dataset}/{backbone}/{split}",
        below(_FEATURES, features="features.npy", provenance="features.provenance.json"),
        record_alone=True,
    ),
    "find_neighbors": RuleFiles(
        "{dataset}/{backbone}/{split}/{kind}",
        below(_FEATURES, neighbors="{kind}.npy", provenance="{kind}.provenance.json"),
        record_alone=True,
    ),
    "choose_k": RuleFiles(
        SETTING,
        below(
            f"{_CLUSTERING}/{{dataset}}/{{backbones}}/k",
            choice="{protocol}.json",
            provenance="{protocol}.provenance.json",
        ),
    ),
    "cluster": RuleFiles(
        RUN,
        below(
            f"{_CLUSTERING}/{RUN}",
            clusters="clusters.safetensors",
            seeds="seeds.json",
            provenance="clusters.provenance.json",
        ),
    ),
    "probe": RuleFiles(
        SETTING,
        below(
            f"{_EVALUATION}/{{dataset}}/{{backbones}}/probe",
            probe="{protocol}.json",
            provenance="{protocol}.provenance.json",
        ),
    ),
    "score_snapshots": RuleFiles(
        "{dataset}/{backbone}",
        below(
            f"{_EVALUATION}/{{dataset}}/{{backbone}}", scores="snapshots.json", provenance="snapshots.provenance.json"
        ),
    ),
    "probe_layers": RuleFiles(
        "{dataset}/{backbone}",
        below(f"{_EVALUATION}/{{dataset}}/{{backbone}}", table="layers.csv", provenance="layers.provenance.json"),
    ),
    "evaluate": RuleFiles(
        RUN,
        below(
            f"{_EVALUATION}/{RUN}",
            metrics="metrics.json",
            assignments="assignments.csv",
            provenance="metrics.provenance.json",
        ),
    ),
    "leaderboard": RuleFiles("", below("results", table="leaderboard.csv", provenance="leaderboard.provenance.json")),
    "project_map": RuleFiles(
        SETTING,
        below(f"{_REPORT}/{SETTING}", map="map.safetensors", provenance="map.provenance.json"),
        record_alone=True,
    ),
    "plot_run": RuleFiles(
        RUN,
        below(
            f"{_REPORT}/{RUN}",
            **{name: f"{name}.png" for name in figures("run")},
            provenance="figures.provenance.json",
        ),
    ),
    "plot_setting": RuleFiles(f"{SETTING}/{{figure}}", _figure(f"{_REPORT}/{SETTING}")),
    "plot_experiment": RuleFiles("{figure}", _figure(_REPORT)),
    "list_runs": RuleFiles(
        "",
        below("results/lists", metrics="metrics.txt", records="records.txt", figures="figures.txt", jobs="jobs.txt"),
    ),
    "write_experiment": RuleFiles("", below("results", experiment="experiment.yaml")),
    "report_page": RuleFiles("", below("results", page="report.html", provenance="report.provenance.json")),
}


def backbone_model(backbone: str) -> str:
    """Return the description of a backbone, whichever rule makes it."""
    return _MODEL["model"].format(backbone=backbone)


def log_of(rule: str) -> str:
    """Return the pattern of a rule's logs."""
    return "/".join(filter(None, ["logs", rule, RULES[rule].place])) + ".log"


def rule_of(job: Any) -> str | None:
    """Return the name here of the rule of one of Snakemake's jobs, or None if it is none of these rules.

    A workflow that uses this one may have renamed it (`use rule * from deepclust as dc_*`); its log keeps the name.
    """
    if not job.rule.log or not _is_ours(job.rule.snakefile):
        return None
    name = Path(str(job.rule.log[0])).with_suffix("").parts[1]
    return name if name in RULES else None


@functools.cache
def _is_ours(snakefile: str) -> bool:
    return Path(snakefile).resolve().parent == SCRIPTS.parent / "rules"  # SCRIPTS has no links in it


@dataclass(frozen=True)
class PlannedJob:
    """One job: a rule with its wildcards."""

    rule: str
    wildcards: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, rule: str, wildcards: Mapping[str, str]) -> "PlannedJob":
        """Return the job of a rule with these wildcards."""
        return cls(rule, tuple(sorted(wildcards.items())))

    def file(self, name: str) -> "File":
        """Return its output of a name."""
        made = File(RULES[self.rule].outputs[name].format(**dict(self.wildcards)))
        made.job = self
        return made


class File(str):
    """The path of a file that a job writes."""

    job: PlannedJob


def file(rule: str, name: str, **wildcards: str) -> File:
    """Return the output of a name of a rule's job with these wildcards."""
    return PlannedJob.of(rule, wildcards).file(name)
