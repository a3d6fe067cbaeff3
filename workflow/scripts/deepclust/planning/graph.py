"""The graph of an experiment's jobs: the inputs of each, as files that know the jobs that write them.

The rules ask `JobGraph.inputs` for their inputs. A walk from the report over the same inputs finds all jobs behind it,
so the graph is written once.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.figures import FigureFile, Scope, figures
from deepclust.core.run_path import RUN
from deepclust.planning.layout import RULES, File, PlannedJob, file
from deepclust.planning.parameters import HALF_WHITENED, Parameters
from deepclust.planning.plan import Run

LISTED = ("metrics", "records", "figures")
"""Inputs of all runs: a thousand paths do not fit on a command line, which names a list of them instead."""

Inputs = Mapping[str, str | Sequence[str]]

_SETTING = ("dataset", "backbones", "protocol")


@dataclass(eq=False)
class JobGraph:
    """The jobs of one experiment, each with its inputs."""

    parameters: Parameters
    _inputs: dict[PlannedJob, Inputs] = field(default_factory=dict, repr=False)

    def inputs(self, rule: str, wildcards: Mapping[str, str]) -> Inputs:
        """Return the inputs of a job, by the names that its command has for them; no files are an empty list.

        Raises:
            DeepclustError: the experiment does not have the things that the wildcards name.
        """
        job = PlannedJob.of(rule, wildcards)
        if job not in self._inputs:
            find: Callable[..., Inputs] = getattr(self, f"_{rule}")
            self._inputs[job] = find(**wildcards)
        return self._inputs[job]

    @functools.cached_property
    def jobs(self) -> tuple[PlannedJob, ...]:
        """All jobs behind the report but downloads, found by walking over inputs from the report."""
        seen: dict[PlannedJob, None] = {}
        waiting = [PlannedJob("report_page", ())]
        while waiting:
            job = waiting.pop()
            if job not in seen and job.rule != "download":
                seen[job] = None
                for value in self.inputs(job.rule, dict(job.wildcards)).values():
                    paths = [value] if isinstance(value, str) else value
                    waiting += [path.job for path in paths if isinstance(path, File)]
        return tuple(seen)

    def records(self) -> list[str]:
        """Return the provenance of every job behind the report, without its own."""
        written = [job for job in self.jobs if job.rule != "report_page" and "provenance" in RULES[job.rule].outputs]
        return sorted(job.file("provenance") for job in written)

    def lost(self) -> list[str]:
        """Return results that are missing while others are there.

        A job that fails loses the result that it was to replace, while the results made from that stay. Snakemake does
        not ask for a missing file if the files made from it are there, so an old score would pass for a new one.
        Downloads are left out, and large results whose record stands: they may be removed once they are read.
        """
        results = [path for job in self.jobs if job.rule != "report_page" for path in _kept(job)]
        missing = [path for path in results if not Path(path).exists()]
        return sorted(missing) if len(missing) < len(results) else []

    def lists(self) -> list[str]:
        """Return the files of all runs, one per line, for every output of `list_runs`."""
        page = self.inputs("report_page", {})
        lists: dict[str, Sequence[str]] = {**{name: page[name] for name in LISTED}, "jobs": self.records()}
        return ["".join(f"{path}\n" for path in lists[name]) for name in RULES["list_runs"].outputs]

    def downloads(self) -> list[str]:
        """Return the downloads that the runs need: archives, and backbones that others trained."""
        fetched = filter(self.parameters.is_fetched, self.parameters.backbones())
        archives = [self._archive(key) for key in self.parameters.needed_archives()]
        return [*archives, *(file("fetch_weights", "model", backbone=name) for name in fetched)]

    def made_by(self, rule: str) -> list[str]:
        """Return the backbones that a rule makes."""
        return [name for name in self.parameters.config["backbones"] if self._maker(name) == rule]

    def only_made_by(self, rule: str) -> str:
        """Return a wildcard constraint: the backbones that a rule makes, and nothing else."""
        return "|".join(map(re.escape, self.made_by(rule))) or "(?!)"

    # --- inputs of each rule; the wildcards of its jobs are the arguments -------------------------------------------

    def _download(self, key: str, file: str) -> Inputs:
        return {}

    def _prepare(self, dataset: str, split: str) -> Inputs:
        return {"archives": [self._archive(key) for key in self.parameters.archives(dataset, split)]}

    def _pixels(self, backbone: str) -> Inputs:
        return {}

    def _fetch_weights(self, backbone: str) -> Inputs:
        downloads = self.parameters.weights_downloads(backbone)
        return {
            **self.parameters.weights_files(backbone),
            **{part: self._archive(key) for part, key in downloads.items()},
        }

    def _pretrain(self, backbone: str) -> Inputs:
        options, facts = self.parameters.config["backbones"][backbone], self.parameters.backbone_facts(backbone)
        dataset, splits, start = options["dataset"], options["splits"], options["start_from"]
        neighbors = splits if facts.get("needs_neighbors") else []
        return {
            **self._images(dataset, splits),
            "start": self._backbone(start)["model"] if start else [],
            "native": file("pretrain", "native", backbone=start) if facts.get("needs_clusters") else [],
            "neighbors": [self._neighbors(dataset, start, [split], "neighbors") for split in neighbors],
        }

    def _extract_features(self, dataset: str, backbone: str, split: str) -> Inputs:
        prepared = PlannedJob.of("prepare", {"dataset": dataset, "split": split})
        files = {"images": prepared.file("images"), "manifest": prepared.file("manifest")}
        return {**files, **self._backbone(backbone)}

    def _extract_part(self, dataset: str, backbone: str, split: str, scatteritem: str) -> Inputs:
        return self.inputs("extract_features", {"dataset": dataset, "backbone": backbone, "split": split})

    def _find_neighbors(self, dataset: str, backbone: str, split: str, kind: str) -> Inputs:
        return {"features": self._features(dataset, [backbone], split.split("+"))}

    def _choose_k(self, dataset: str, backbones: str, protocol: str) -> Inputs:
        train, _ = self._splits(dataset, protocol)
        return {"features": self._features(dataset, backbones.split("+"), train)}

    def _cluster(self, dataset: str, backbones: str, head: str, k: str, protocol: str) -> Inputs:
        run = self.run(dataset, backbones, head, k, protocol)
        train, _ = self._splits(dataset, protocol)
        kind, plan = self.parameters.neighbors_of(head), self.parameters.plan
        native = self.parameters.head_facts(head).get("needs_native")
        setting = {"dataset": dataset, "backbones": backbones, "protocol": protocol}
        return {
            "features": self._features(dataset, run.backbones, plan.all_splits(dataset, protocol)),
            "neighbors": [self._neighbors(dataset, name, train, kind) for name in run.backbones] if kind else [],
            "members": [self._run_file("cluster", "clusters", member) for member in plan.members(run)],
            "native": file("pretrain", "native", backbone=backbones) if native else [],
            "chosen_k": file("choose_k", "choice", **setting) if k == "auto" else [],
        }

    def _probe(self, dataset: str, backbones: str, protocol: str) -> Inputs:
        train, score = self._splits(dataset, protocol)
        return {
            "train_features": self._features(dataset, backbones.split("+"), train),
            "train_labels": self._prepared("labels", dataset, train),
            "score_features": self._features(dataset, backbones.split("+"), score),
            "score_labels": self._prepared("labels", dataset, score),
        }

    def _score_snapshots(self, dataset: str, backbone: str) -> Inputs:
        self.parameters.plan.check_defined("backbones", backbone)
        if not self.parameters.is_pretrained_here(backbone):
            raise DeepclustError(f"{backbone} has no snapshots: it is not trained here")
        train, score = (
            PlannedJob.of("prepare", {"dataset": dataset, "split": split})
            for split in self.parameters.snapshot_splits(dataset)
        )
        return {
            "snapshots": file("pretrain", "snapshots", backbone=backbone),
            "images_train": train.file("images"),
            "manifest_train": train.file("manifest"),
            "labels_train": train.file("labels"),
            "images_score": score.file("images"),
            "manifest_score": score.file("manifest"),
            "labels_score": score.file("labels"),
            "classes": train.file("classes"),
        }

    def _probe_layers(self, dataset: str, backbone: str) -> Inputs:
        train, score = self.parameters.plan.run_splits(dataset, "held-out")
        return {
            **self._backbone(backbone),
            "train_images": self._prepared("images", dataset, train),
            "train_manifests": self._prepared("manifest", dataset, train),
            "train_labels": self._prepared("labels", dataset, train),
            "score_images": self._prepared("images", dataset, score),
            "score_manifests": self._prepared("manifest", dataset, score),
            "score_labels": self._prepared("labels", dataset, score),
        }

    def _evaluate(self, dataset: str, backbones: str, head: str, k: str, protocol: str) -> Inputs:
        run = self.run(dataset, backbones, head, k, protocol)
        _, score = self._splits(dataset, protocol)
        clustering = self._run_job("cluster", run)
        neighbors = [self._neighbors(dataset, name, score, HALF_WHITENED) for name in run.backbones]
        return {
            "clusters": clustering.file("clusters"),
            "seeds": clustering.file("seeds"),
            "cost": clustering.file("provenance"),
            "features": self._features(dataset, run.backbones, score),
            "neighbors": neighbors,
            "labels": self._prepared("labels", dataset, score),
            "classes": self._prepared("classes", dataset, score),
            "ids": self._prepared("ids", dataset, self.parameters.plan.all_splits(dataset, protocol)),
            "manifests": self._prepared("manifest", dataset, score),
            "probe": file("probe", "probe", dataset=dataset, backbones=backbones, protocol=protocol),
        }

    def _leaderboard(self) -> Inputs:
        return {"metrics": self._of_all_runs("evaluate", "metrics"), "lists": [self._list("metrics")]}

    def _project_map(self, dataset: str, backbones: str, protocol: str) -> Inputs:
        _, score = self._splits(dataset, protocol)
        return {"features": self._features(dataset, backbones.split("+"), score)}

    def _plot_run(self, dataset: str, backbones: str, head: str, k: str, protocol: str) -> Inputs:
        run = self.run(dataset, backbones, head, k, protocol)
        _, score = self._splits(dataset, protocol)
        files: Inputs = {
            "metrics": self._run_job("evaluate", run).file("metrics"),
            "clusters": self._run_job("cluster", run).file("clusters"),
            "images": self._prepared("images", dataset, score),
            "manifests": self._prepared("manifest", dataset, score),
            "labels": self._prepared("labels", dataset, score),
            "map": file("project_map", "map", dataset=dataset, backbones=backbones, protocol=protocol),
        }
        read = [_read(figure, files) for figure in figures("run").values()]
        return {"metrics": files["metrics"]} | {name: path for each in read for name, path in each.items()}

    def _plot_setting(self, dataset: str, backbones: str, protocol: str, figure: str) -> Inputs:
        return self._to_draw(figure, self._setting_files(dataset, backbones, protocol))

    def _setting_files(self, dataset: str, backbones: str, protocol: str) -> Inputs:
        """Return the files for figures of a setting, by the names that the figures have for them."""
        setting = {"dataset": dataset, "backbones": backbones, "protocol": protocol}
        self._splits(dataset, protocol)
        for name in backbones.split("+"):
            self.parameters.plan.check_defined("backbones", name)
        chosen = (dataset, backbones, protocol) in self._choices_of_k()
        return {
            "choice": file("choose_k", "choice", **setting) if chosen else [],
            "probe": file("probe", "probe", **setting),
            "map": file("project_map", "map", **setting),
        }

    def _plot_experiment(self, figure: str) -> Inputs:
        return self._to_draw(figure, self._experiment_files())

    def _experiment_files(self) -> Inputs:
        """Return the files for figures of the experiment, by the names that the figures have for them."""
        trained = filter(self.parameters.is_pretrained_here, self.parameters.backbones())
        snapshots, layers = self.parameters.snapshots(), self.parameters.probed_layers()
        return {
            "metrics": self._of_all_runs("evaluate", "metrics"),
            "logs": [file("pretrain", "log", backbone=name) for name in trained],
            "scores": [file("score_snapshots", "scores", dataset=d, backbone=b) for d, b in snapshots],
            "tables": [file("probe_layers", "table", dataset=d, backbone=b) for d, b in layers],
        }

    def _to_draw(self, name: str, files: Inputs) -> Inputs:
        """Return the inputs of a figure, and their lists if they are too long for a command line.

        Raises:
            DeepclustError: the experiment does not have all of it.
        """
        read = _read(figures()[name], files)
        if missing := [each for each, found in read.items() if not found]:
            raise DeepclustError(
                f"there is nothing to draw as {name}: the experiment has no {', '.join(missing)} for it"
            )
        return {**read, "lists": [self._list(each) for each in read if each in LISTED]}

    def _list_runs(self) -> Inputs:
        return {}

    def _write_experiment(self) -> Inputs:
        return {}

    def _report_page(self) -> Inputs:
        choices = [dict(zip(_SETTING, setting)) for setting in self._choices_of_k()]
        return {
            "metrics": self._of_all_runs("evaluate", "metrics"),
            "records": self._of_all_runs("evaluate", "provenance"),
            "figures": self._figures(),
            "lists": [self._list(name) for name in LISTED],
            "job_list": self._list("jobs"),
            "leaderboard": file("leaderboard", "table"),
            "choices": [file("choose_k", "choice", **setting) for setting in choices],
            "experiment": file("write_experiment", "experiment"),
        }

    def _figures(self) -> Sequence[str]:
        """Return all figures that have their inputs."""
        runs = self.parameters.plan.runs
        found: list[str] = [self._run_job("plot_run", run).file(name) for run in runs for name in figures("run")]
        settings = dict.fromkeys((run.dataset, "+".join(run.backbones), run.protocol) for run in runs)
        for setting in settings if figures("setting") else ():
            drawn, names = _drawn("setting", self._setting_files(*setting)), dict(zip(_SETTING, setting))
            found += [file("plot_setting", "figure", figure=name, **names) for name in drawn]
        drawn = _drawn("experiment", self._experiment_files())
        return found + [file("plot_experiment", "figure", figure=name) for name in drawn]

    # --- parts of these inputs --------------------------------------------------------------------------------------

    def run(self, dataset: str, backbones: str, head: str, k: str, protocol: str) -> Run:
        """Return the run of a job.

        Raises:
            DeepclustError: the experiment has no such run.
        """
        self.parameters.plan.check_defined("datasets", dataset)
        path = RUN.format(dataset=dataset, backbones=backbones, head=head, k=k, protocol=protocol)
        return self.parameters.run(path)

    def scored(self, dataset: str, protocol: str) -> list[str]:
        """Return the splits that a head is scored on.

        Raises:
            DeepclustError: the dataset lacks a split that the protocol needs.
        """
        return self._splits(dataset, protocol)[1]

    def _splits(self, dataset: str, protocol: str) -> tuple[list[str], list[str]]:
        self.parameters.plan.check_protocol(dataset, protocol)
        return self.parameters.plan.run_splits(dataset, protocol)

    def _archive(self, key: str) -> File:
        folder, _, name = key.partition("/")
        return file("download", "archive", key=folder, file=name)

    def _prepared(self, name: str, dataset: str, splits: Iterable[str]) -> list[str]:
        return [file("prepare", name, dataset=dataset, split=split) for split in splits]

    def _images(self, dataset: str, splits: list[str]) -> Inputs:
        names = {"images": "images", "manifests": "manifest"}
        return {field: self._prepared(name, dataset, splits) for field, name in names.items()}

    def _backbone(self, backbone: str) -> Inputs:
        """Return `model.json` of a backbone, and its weights."""
        self.parameters.plan.check_defined("backbones", backbone)
        job = PlannedJob.of(self._maker(backbone), {"backbone": backbone})
        return {"model": job.file("model"), "weights": job.file("weights")}

    def _maker(self, backbone: str) -> str:
        """Return the rule that makes a backbone."""
        if self.parameters.is_fetched(backbone):
            return "fetch_weights"
        return "pretrain" if self.parameters.is_pretrained_here(backbone) else "pixels"

    def _features(self, dataset: str, backbones: Iterable[str], splits: Iterable[str]) -> list[str]:
        """Return the features of every split and, within a split, of every backbone."""
        names = list(backbones)
        return [
            file("extract_features", "features", dataset=dataset, backbone=backbone, split=split)
            for split in splits
            for backbone in names
        ]

    def _neighbors(self, dataset: str, backbone: str, splits: Iterable[str], kind: str) -> File:
        """Return the neighbors among the images of all these splits."""
        names = {"dataset": dataset, "backbone": backbone, "split": "+".join(splits), "kind": kind}
        return file("find_neighbors", "neighbors", **names)

    def _run_job(self, rule: str, run: Run) -> PlannedJob:
        names = {"dataset": run.dataset, "backbones": "+".join(run.backbones), "head": run.head}
        return PlannedJob.of(rule, {**names, "k": str(run.k), "protocol": run.protocol})

    def _run_file(self, rule: str, name: str, path: str) -> File:
        return self._run_job(rule, self.parameters.run(path)).file(name)

    def _of_all_runs(self, rule: str, name: str) -> list[str]:
        return [self._run_job(rule, run).file(name) for run in self.parameters.plan.runs]

    def _list(self, name: str) -> File:
        return file("list_runs", name)

    def _choices_of_k(self) -> Iterator[tuple[str, str, str]]:
        """Yield every choice of k that runs ask for, in the order of the runs."""
        chosen = [run for run in self.parameters.plan.runs if run.k == "auto"]
        yield from dict.fromkeys((run.dataset, "+".join(run.backbones), run.protocol) for run in chosen)


def _read(figure: FigureFile, files: Inputs) -> Inputs:
    """Return the files of its scope that a figure reads.

    Raises:
        DeepclustError: it names one that does not exist.
    """
    if unknown := [name for name in figure.facts.reads if name not in files]:
        known = f"of {figure.facts.scope} there are {', '.join(files)}"
        raise DeepclustError(f"reporting/figures/{figure.name}.py reads {unknown[0]}, but {known}")
    return {name: files[name] for name in figure.facts.reads}


def _drawn(scope: Scope, files: Inputs) -> list[str]:
    """Return the figures of a scope that have all their inputs."""
    return [name for name, figure in figures(scope).items() if all(_read(figure, files).values())]


def _kept(job: PlannedJob) -> list[str]:
    """Return the results of a job that are never removed by hand."""
    names = ["provenance"] if RULES[job.rule].record_alone else list(RULES[job.rule].outputs)
    return [job.file(name) for name in names]
