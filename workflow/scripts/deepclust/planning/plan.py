"""The plan of an experiment: its resolved options and its runs, or all its errors at once."""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from deepclust.core.addresses import local_path
from deepclust.core.errors import DeepclustError, did_you_mean
from deepclust.core.image_files import image_paths
from deepclust.core.limits import LONGEST_FILE_NAME, most_clusters, shorter_side
from deepclust.core.run_path import run_path
from deepclust.planning import pretrained
from deepclust.planning.class_folders import meant_splits
from deepclust.planning.downloads import looked_in
from deepclust.planning.experiment_options import PROTOCOLS
from deepclust.planning.layout import backbone_model
from deepclust.planning.overlaps import check_overlap
from deepclust.planning.problems import ExperimentError, Keys, Problem, ProblemError
from deepclust.planning.schema import Schema, check_and_fill, undefined
from deepclust.planning.strict_yaml import check_file

Config = dict[str, Any]

MOST_SEEDS = 10_000  # a larger number is probably meant as one seed, such as a date


@dataclass(frozen=True)
class Run:
    """A dataset × one or several backbones × a head × k, with all its seeds."""

    dataset: str
    backbones: tuple[str, ...]
    head: str
    k: int | Literal["auto"]
    protocol: str
    seeds: tuple[int, ...]

    @property
    def path(self) -> str:
        """Return the path of its results, below the folder of a stage."""
        return run_path(self.dataset, "+".join(self.backbones), self.head, self.k, self.protocol)


@dataclass(frozen=True)
class Plan:
    """A checked experiment.

    Attributes:
        config: the experiment with every default in it.
        runs: all runs, in the order of the file.
        schema: the schema it was checked with.
    """

    config: Config
    runs: tuple[Run, ...]
    schema: Schema

    def dataset_facts(self, dataset: str) -> Config:
        """Return the facts of a dataset by its loader (splits and their sizes, classes, archives …)."""
        return facts_of(self.config["datasets"][dataset], self.schema)

    def splits(self, dataset: str) -> list[str]:
        """Return the splits of a dataset.

        Raises:
            DeepclustError: the experiment defines no such dataset.
        """
        self.check_defined("datasets", dataset)
        return split_names(self.config["datasets"][dataset], self.dataset_facts(dataset))

    def run_splits(self, dataset: str, protocol: str) -> tuple[list[str], list[str]]:
        """Return the splits that a head is fitted on, and those it is scored on.

        Raises:
            DeepclustError: the experiment defines no such dataset.
        """
        return protocol_splits(self.splits(dataset), protocol)

    def all_splits(self, dataset: str, protocol: str) -> list[str]:
        """Return the splits of `run_splits`, each once."""
        train, score = self.run_splits(dataset, protocol)
        return list(dict.fromkeys(train + score))

    def check_protocol(self, dataset: str, protocol: str) -> None:
        """Check that a dataset has the splits that a protocol needs.

        Raises:
            DeepclustError: there is no such dataset, or it lacks a split.
        """
        if missing := missing_splits(self.splits(dataset), protocol):
            raise DeepclustError(f"{dataset} has no {missing[0]} split, which {protocol} needs")

    def check_defined(self, section: str, name: str) -> None:
        """Check that a section defines a name.

        Raises:
            DeepclustError: it does not.
        """
        if name not in self.config[section]:
            raise DeepclustError(undefined(section, name, self.config[section]))

    def members(self, run: Run) -> list[str]:
        """Return the paths of the runs whose clusters a run combines."""
        names = self.config["heads"][run.head].get("members", [])
        return [replace(run, head=name).path for name in names]


def make_plan(config: Config, files: list[Path], schema: Schema | None = None) -> Plan:
    """Check an experiment and list its runs.

    Args:
        config: the experiment as Snakemake merged it.
        files: the files it came from, read again to find the mistakes that merging hides (duplicate keys).

    Raises:
        ExperimentError: with every problem that can be known before the first job.
    """
    broken = [line for file in files for line in check_file(file)]
    if broken:
        raise ExperimentError(broken)
    schema = schema or Schema()
    filled, problems = check_and_fill(config, schema)
    checker = _Checker(filled, schema, problems)
    problems = list(dict.fromkeys([*problems, *checker.check()]))
    if problems:
        prefix = f"{files[-1]}: " if len(files) == 1 else ""
        raise ExperimentError([f"{prefix}{problem}" for problem in problems])
    return Plan(filled, tuple(checker.runs), schema)


def facts_of(dataset: Config, schema: Schema) -> Config:
    """Return the facts of a loader about its dataset under these options."""
    facts = schema.facts("loader", str(dataset["loader"]))
    for option, variants in facts.get("variants", {}).items():
        facts = {**facts, **variants.get(str(dataset.get(option)), {})}
    return facts


def split_names(dataset: Config, facts: Config) -> list[str]:
    """Return the splits of a dataset."""
    optional = facts.get("optional_splits", {})
    return [split for split in facts["splits"] if split not in optional or dataset.get(optional[split]) is not None]


def protocol_splits(names: list[str], protocol: str) -> tuple[list[str], list[str]]:
    """Return the splits that a head is fitted on, and those it is scored on."""
    train, score = PROTOCOLS[protocol]
    return [split for split in train if split in names], [split for split in score if split in names]


def missing_splits(names: Collection[str], protocol: str) -> list[str]:
    """Return the splits that a protocol needs and a dataset lacks; `merged` takes those that are there."""
    needed = [] if protocol == "merged" else [split for part in PROTOCOLS.get(protocol, ()) for split in part]
    return [split for split in needed if split not in names]


def splits_of(dataset: Config, facts: Config) -> dict[str, int | None]:
    """Return the splits of a dataset and their sizes (None: not known before it is prepared).

    It looks through folders and reads lists.

    Raises:
        ProblemError: a folder or a list cannot be read.
    """
    optional = facts.get("optional_splits", {})
    sizes = {split: facts["splits"][split] for split in split_names(dataset, facts)}
    return {
        split: _count(dataset, optional.get(split, "path"), facts.get("watch")) if size is None else size
        for split, size in sizes.items()
    }


def _count(dataset: Config, key: str, watch: str | None) -> int | None:
    """Return the number of images in the list or the folder of images that an option names, None for anything else."""
    named = dataset.get(key)
    if not isinstance(named, str):
        return None
    with reading(key):
        if watch == "listed" and Path(named).is_file():
            return _listed(Path(named))
        return sum(1 for _ in image_paths(Path(named))) if watch == "images" and Path(named).is_dir() else None


def _listed(path: Path) -> int:
    """Return the number of images in a list: its lines without blank ones and without the header of a table."""
    header = path.suffix.lower() in {".csv", ".tsv"}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return max(sum(1 for line in file if line.strip()) - header, 0)


@contextlib.contextmanager
def reading(*option: str) -> Iterator[None]:
    """Turn the operating system's errors while the files of an option are read into one line.

    Args:
        option: the keys that lead to it.

    Raises:
        ProblemError: something cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise ProblemError(Problem(option, f"{error.filename} cannot be read: {error.strerror}")) from error


class _Checker:
    """Checks that a schema cannot make: names that must exist, sizes that must fit, paths that must be there."""

    def __init__(self, config: Config, schema: Schema, found_by_schema: list[Problem]) -> None:
        self.config = config
        self.schema = schema
        self.found_by_schema = found_by_schema
        self.runs: list[Run] = []
        self._splits: dict[str, dict[str, int | None] | None] = {}  # looking through a large folder takes a while
        self._unreadable: list[Problem] = []

    def section(self, name: str) -> dict[str, Config]:
        """Return the entries of a section of named things that the schema has no complaint about."""
        entries = self.config.get(name)
        if not isinstance(entries, dict):
            return {}
        return {k: v for k, v in entries.items() if isinstance(v, dict) and not self.complained(name, k)}

    def complained(self, *keys: Any) -> bool:
        """Tell whether the schema found a mistake there, so that other checks cannot rely on it."""
        return any(problem.is_below(*keys) for problem in self.found_by_schema)

    def check_range(self, dataset: str, train: list[str], known: int | None) -> Iterator[Problem]:
        """Check that the largest number of clusters that `k: auto` tries fits the sample that it looks at."""
        if self.complained("choose_k"):
            return
        largest, samples = self.config["choose_k"]["range"][-1], self.config["choose_k"]["samples"]
        sample = samples if known is None else min(samples, known)
        if largest > (most := most_clusters(sample)):
            fix = "lower it, or raise choose_k.samples" if known is None or samples < known else "lower it"
            named = f"subsamples of {most} of {sample} images of {dataset} ({'+'.join(train)})"
            yield Problem(("choose_k", "range"), f"{largest} clusters are too many for {named}: {fix}")

    def facts(self, dataset: str) -> Config | None:
        options = self.section("datasets").get(dataset, {})
        return facts_of(options, self.schema) if f"loader.{options.get('loader')}" in self.schema.definitions else None

    def splits(self, dataset: str) -> dict[str, int | None] | None:
        """Return the splits and their sizes; None if the loader is unknown or a folder cannot be looked through."""
        facts = self.facts(dataset)
        if facts is not None and dataset not in self._splits:
            try:
                self._splits[dataset] = splits_of(self.section("datasets")[dataset], facts)
            except ProblemError as error:
                self._splits[dataset] = None
                self._unreadable.append(error.problem.under("datasets", dataset))
        return self._splits.get(dataset)

    def check(self) -> Iterator[Problem]:
        for name, options in self.section("datasets").items():
            yield from self.check_paths(("datasets", name), options, "loader")
            yield from self.check_source(name, options)
            yield from check_overlap(("datasets", name), options, self.facts(name) or {})
            yield from self.check_class_folders(("datasets", name), options)
        for name, options in self.section("backbones").items():
            yield from self.check_paths(("backbones", name), options, "method")
            yield from self.check_backbone(name, options)
        for name, options in self.section("heads").items():
            yield from self.check_members(name, options.get("members"))
        yield from self.check_seeds(("seeds",), self.config.get("seeds"))
        yield from self.check_runs()
        yield from self.check_layer_probe()
        yield from self._unreadable

    def check_paths(self, where: Keys, options: Config, discriminator: str) -> Iterator[Problem]:
        kind = "loader" if discriminator == "loader" else "backbone"
        definition = self.schema.definitions.get(f"{kind}.{options.get(discriminator)}", {})
        for key, node in definition.get("properties", {}).items():
            formats = {option.get("format") for option in [node, *node.get("anyOf", [])]}
            value = options.get(key)
            if not isinstance(value, str):
                continue
            if value in [choice for option in node.get("anyOf", []) for choice in option.get("enum", [])]:
                continue
            if "directory-path" in formats and not Path(value).is_dir():
                yield Problem((*where, key), f"there is no folder {value}{looked_in(value)}")
            elif "file-path" in formats and not Path(value).is_file():
                choices = [choice for option in node.get("anyOf", []) for choice in option.get("enum", [])]
                meant = did_you_mean(value, choices) if choices else looked_in(value)
                yield Problem((*where, key), f"there is no file {value}{meant}")
            elif "path" in formats and not Path(value).exists():
                yield Problem((*where, key), f"there is no file or folder {value}{looked_in(value)}")

    def check_class_folders(self, where: Keys, options: Config) -> Iterator[Problem]:
        """Check for folders of classes with names that mean splits, or `images`, but hardly classes."""
        folders = {key: options.get(key) for key in ("path", "test_path")} if options.get("class_folders") else {}
        try:
            meant = meant_splits({key: Path(path) for key, path in folders.items() if isinstance(path, str)})
        except OSError:
            return  # said where the images are counted
        if meant is not None:
            found, paths = meant
            fix = "; ".join(f"{key}: {path}" for key, path in paths.items())
            yield Problem((*where, found), f"write {fix} (or class_folders: false, for images without labels)")

    def check_source(self, name: str, options: Config) -> Iterator[Problem]:
        facts = self.facts(name)
        sources = options.get("source")
        files = [archive["file"] for archive in (facts or {}).get("archives", [])]
        for source in [sources] if isinstance(sources, str) else sources or []:
            for copy in copies(source, files) if isinstance(source, str) else []:
                if (path := local_path(copy)) is not None and not path.is_file():
                    yield Problem(("datasets", name, "source"), f"there is no file {path}{looked_in(path)}")

    def check_backbone(self, name: str, options: Config) -> Iterator[Problem]:
        where = ("backbones", name)
        if options.get("method") == pretrained.METHOD:
            yield from pretrained.check_pretrained(where, options)
        dataset = options.get("dataset")
        if isinstance(dataset, str):
            yield from self.known((*where, "dataset"), dataset, "datasets")
            known = self.splits(dataset)
            for split in options.get("splits") or [] if known is not None else []:
                if split not in (known or {}):
                    yield Problem(
                        (*where, "splits"), f"{dataset} has no split {split!r} (it has {', '.join(known or {})})"
                    )
            yield from self.twice((*where, "splits"), options.get("splits") or [])
            yield from self.check_training_images(where, dataset, options)
            yield from self.check_training_clusters(where, dataset, options)
            yield from self.check_nearest(where, dataset, options)
        state = options.get("resume_from")
        made = Path(backbone_model(name)).exists()
        if isinstance(state, str) and not made and not Path(state).exists():
            yield Problem((*where, "resume_from"), f"there is no state {state}")
        start = options.get("start_from")
        if isinstance(start, str):
            yield from self.known((*where, "start_from"), start, "backbones")
            yield from self.check_start(where, name, options, self.section("backbones").get(start, {}))
            yield from self.check_start_clusters(where, options, self.section("backbones").get(start, {}))

    def check_start(self, where: Keys, name: str, options: Config, start: Config) -> Iterator[Problem]:
        if name in self.ancestors(name):
            yield Problem((*where, "start_from"), f"{name} would start from itself")
        with contextlib.suppress(DeepclustError):  # said where that backbone is described
            elsewhere = start.get("method") == "pretrained"
            keys = ("architecture", "stem", "sobel") if start else ()
            theirs = pretrained.network_of(start) if elsewhere else {key: start.get(key) for key in keys}
            for key in theirs:
                if options.get(key) != theirs[key]:
                    its = f"{options['start_from']}'s {theirs[key]}"
                    yield Problem((*where, key), f"{options.get(key)} differs from {its}, where training starts")

    def check_start_clusters(self, where: Keys, options: Config, start: Config) -> Iterator[Problem]:
        """Check that a method that goes on with another's clusters gets as many as it asks for."""
        facts, theirs = (self.backbone_facts(each.get("method")) for each in (options, start))
        if facts.get("needs_clusters") and start and theirs.get("native_k") is None:
            yield Problem(
                (*where, "start_from"), f"{options['start_from']} ({start.get('method')}) has no clusters of its own"
            )
        elif facts.get("needs_clusters") and start and start.get(theirs["native_k"]) != options.get("clusters"):
            yield Problem((*where, "clusters"), f"{options['start_from']} has {start.get(theirs['native_k'])} clusters")

    def check_nearest(self, where: Keys, dataset: str, options: Config) -> Iterator[Problem]:
        """Check that each split has the neighbors for a method that reads another's."""
        if self.backbone_facts(options.get("method")).get("needs_neighbors"):
            sizes = self.splits(dataset) or {}
            for split in options.get("splits") or []:
                others = f"{dataset} ({split})"
                yield from _check_others((*where, "nearest"), options.get("nearest"), others, sizes.get(split))

    def check_training_images(self, where: Keys, dataset: str, options: Config) -> Iterator[Problem]:
        """Check that training gets images of one size."""
        facts = self.facts(dataset)
        if facts is not None and facts.get("shape") is None and options.get("image_size") is None:
            yield Problem(
                (*where, "image_size"), f"images of {dataset} may differ in size: give the side to train with, e.g. 96"
            )

    def check_training_clusters(self, where: Keys, dataset: str, options: Config) -> Iterator[Problem]:
        """Check that a method that clusters the images it trains on has enough of them."""
        sizes, names, clusters = self.splits(dataset) or {}, options.get("splits"), options.get("clusters")
        if isinstance(names, list) and all(name in sizes for name in names) and isinstance(clusters, int):
            count = _total([sizes[name] for name in names])
            if count is not None and clusters > count:
                found = f"{clusters} clusters are more than the {count} images of {dataset} ({'+'.join(names)})"
                yield Problem((*where, "clusters"), f"{found}: lower it")

    def ancestors(self, backbone: str) -> set[str]:
        """Return the backbones that a backbone starts from, directly or not."""
        found: set[str] = set()
        current = self.section("backbones").get(backbone, {}).get("start_from")
        while isinstance(current, str) and current not in found:
            found.add(current)
            current = self.section("backbones").get(current, {}).get("start_from")
        return found

    def known(self, where: Keys, name: Any, section: str) -> Iterator[Problem]:
        entries = self.config.get(section)
        if isinstance(entries, dict) and name not in entries:
            yield Problem(where, undefined(section, name, entries))

    def check_seeds(self, where: Keys, seeds: Any) -> Iterator[Problem]:
        count = seeds if isinstance(seeds, int) else len(seeds) if isinstance(seeds, list) else 0
        if count > MOST_SEEDS:
            fix = f": a single seed is written seeds: [{seeds}]" if isinstance(seeds, int) else ""
            yield Problem(where, f"{count} seeds are more than {MOST_SEEDS}{fix}")
            return
        for seed in seed_list(seeds):
            if seed < 0:
                yield Problem(where, f"a seed must be at least 0, got {seed}")
        yield from self.twice(where, seed_list(seeds))
        if (isinstance(seeds, int) and seeds < 1) or seeds == []:
            yield Problem(where, "needs at least one seed")

    def twice(self, where: Keys, items: list[Any]) -> Iterator[Problem]:
        for item, count in Counter(map(repr, items)).items():
            if count > 1:
                yield Problem(where, f"{item} is named twice")

    def check_runs(self) -> Iterator[Problem]:
        entries = self.config.get("runs")
        seen: dict[str, int] = {}
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            where = ("runs", index)
            if not isinstance(entry, dict) or self.complained(*where):
                continue
            problems = list(self.check_run(where, entry))
            yield from problems
            for run in self.expand(entry) if not problems else []:
                if run.path in seen:
                    yield Problem(where, f"{run.path} is already part of runs.{seen[run.path]}")
                seen[run.path] = index
                self.runs.append(run)
        yield from self.check_member_runs(seen)

    def check_batches(self, head: Any, k: int, known: int | None) -> Iterator[Problem]:
        """Check heads that even the clusters of every batch: it must hold two images of each, if there are so many."""
        size = self.section("heads")[head].get("batch_size") if self.head_facts(head).get("evens_batches") else None
        if k > 1 and isinstance(size, int) and size < min(2 * k, known or 2 * k):
            few = f"{size} images are too few to divide a batch into {k} clusters"
            yield Problem(("heads", head, "batch_size"), f"{few}: at least {2 * k}, better {8 * k}")

    def check_layer_probe(self) -> Iterator[Problem]:
        where, probe = ("evaluation", "layer_probe", "backbones"), self.section("evaluation").get("layer_probe", {})
        names = probe.get("backbones")
        for name in names if isinstance(names, list) else []:
            yield from self.known(where, name, "backbones")
            if self.section("backbones").get(name, {}).get("method") == "pixels":
                yield Problem(where, f"{name} is raw pixels, which have no stages")
            elif name in self.section("backbones") and name not in self.read_backbones():
                yield Problem(where, f"no run reads {name}: add it to the backbones of a run, or leave it out here")

    def read_backbones(self) -> set[Any]:
        """Return the backbones that runs name, well-formed or not."""
        entries = _as_list(self.config.get("runs"))
        named = [entry.get("backbones") for entry in entries if isinstance(entry, dict)]
        items = [item for names in named for item in _as_list(names)]
        return {name for item in items for name in _as_list(item) if isinstance(name, str)}

    def check_members(self, head: str, members: Any) -> Iterator[Problem]:
        """Check that the members of a head that combines others are heads that combine no others themselves."""
        where = ("heads", head, "members")
        names = [name for name in members if isinstance(name, str)] if isinstance(members, list) else []
        yield from self.twice(where, names)
        for name in names:
            yield from self.known(where, name, "heads")
            if "members" in self.section("heads").get(name, {}):
                yield Problem(where, f"{name} combines other heads itself: name those instead")

    def check_member_runs(self, entries: dict[str, int]) -> Iterator[Problem]:
        """Check that the members of a run that combines others are runs, too.

        Args:
            entries: for every run its index in `runs`.
        """
        for run in self.runs:
            members = self.section("heads").get(run.head, {}).get("members", [])
            for name in members if isinstance(members, list) else []:
                path = replace(run, head=name).path
                if path not in entries and name in self.section("heads"):
                    missing = f"{run.head} combines {name}, but {path} is no run: add {name} to heads"
                    yield Problem(("runs", entries[run.path], "heads"), missing)

    def check_run(self, where: Keys, entry: Config) -> Iterator[Problem]:
        dataset, backbones, heads = entry["dataset"], entry["backbones"], entry["heads"]
        yield from self.known((*where, "dataset"), dataset, "datasets")
        yield from self.twice((*where, "backbones"), backbones)
        yield from self.twice((*where, "heads"), heads)
        for item in backbones:
            for backbone in item if isinstance(item, list) else [item]:
                yield from self.known((*where, "backbones"), backbone, "backbones")
                yield from self.check_native_size(where, dataset, backbone)
                yield from self.check_crops(dataset, backbone)
            if isinstance(item, list):
                yield from self.twice((*where, "backbones"), item)
                yield from self.check_joint(where, item, heads)
                yield from self.check_joined_name(where, item)
        for head in heads:
            yield from self.known((*where, "heads"), head, "heads")
            for backbone in backbones if self.head_facts(head).get("needs_native") else []:
                yield from self.check_native(where, head, backbone, _as_list(entry["k"]))
        yield from self.check_seeds((*where, "seeds"), entry.get("seeds"))
        yield from self.check_sizes(where, dataset, entry)

    def check_native_size(self, where: Keys, dataset: str, backbone: Any) -> Iterator[Problem]:
        """Check that raw pixels have one length: those of images of different sizes have none."""
        options = self.section("backbones").get(backbone, {}) if isinstance(backbone, str) else {}
        facts = self.facts(dataset)
        features = options.get("features")
        size = options.get("image_size") or (features.get("image_size") if isinstance(features, dict) else None)
        if facts and options.get("method") == "pixels" and facts.get("shape") is None and size is None:
            fix = f"give backbones.{backbone}.image_size, e.g. 32"
            yield Problem((*where, "backbones"), f"images of {dataset} may differ in size: {fix}")

    def check_crops(self, dataset: str, backbone: Any) -> Iterator[Problem]:
        """Check that the crops of an image differ: if all of it is seen, its corners are its centre."""
        options = self.section("backbones").get(backbone, {}) if isinstance(backbone, str) else {}
        features, facts = options.get("features"), self.facts(dataset)
        if facts is None or not isinstance(features, dict):
            return
        views = features.get("test_time_augmentation")
        with contextlib.suppress(DeepclustError):  # said where that backbone is described
            reading = pretrained.resize_and_crop(options) if views in {"five-crop", "ten-crop"} else None
            if reading is None:
                return
            size, fraction = reading
            shape = facts.get("shape")
            square = shape is not None and shape[-2] == shape[-1]
            if size is None or (square and shorter_side(size, fraction) == size):
                same = f"the crops of an image of {dataset} would all be the same, the whole image"
                fix = "set image_size and a crop_fraction below 1 beside it, or none"
                yield Problem(("backbones", backbone, "features", "test_time_augmentation"), f"{same}: {fix}")

    def head_facts(self, head: Any) -> Config:
        """Return the facts of a head's method; nothing if the head or its method is unknown."""
        method = self.section("heads").get(head, {}).get("method") if isinstance(head, str) else None
        return self.schema.facts("head", str(method)) if f"head.{method}" in self.schema.definitions else {}

    def backbone_facts(self, method: Any) -> Config:
        """Return the facts of a method of backbones; nothing if it is unknown."""
        known = f"backbone.{method}" in self.schema.definitions
        return self.schema.facts("backbone", str(method)) if known else {}

    def check_native(self, where: Keys, head: str, backbone: Any, numbers: list[Any]) -> Iterator[Problem]:
        """Check that a head that predicts with the clusters of the backbone's method gets as many as are wanted."""
        options = self.section("backbones").get(backbone, {}) if isinstance(backbone, str) else {}
        method = options.get("method")
        if f"backbone.{method}" not in self.schema.definitions:
            return
        option = self.schema.facts("backbone", str(method)).get("native_k")
        if option is None:
            yield Problem(
                (*where, "heads"),
                f"{head} predicts with the backbone's own clusters, but {method} ({backbone}) has none",
            )
        elif any(k != options.get(option) for k in numbers):
            yield Problem(
                (*where, "k"), f"{head} has the {options.get(option)} clusters of {backbone} ({option}), got {numbers}"
            )
        elif (options.get("features") or {}).get("pooling") not in (None, "avg"):
            yield Problem(
                ("backbones", backbone, "features", "pooling"), f"{head} needs avg, with which its clusters were found"
            )

    def check_joint(self, where: Keys, backbones: list[str], heads: list[str]) -> Iterator[Problem]:
        for head in heads:
            most = self.head_facts(head).get("max_backbones")
            if most is not None and len(backbones) > most:
                yield Problem((*where, "backbones"), f"head {head} reads at most {most} at once, got {backbones}")

    def check_joined_name(self, where: Keys, backbones: list[str]) -> Iterator[Problem]:
        """Check that the joined names of backbones that are read together fit one folder's name."""
        length = len("+".join(backbones))
        if length > LONGEST_FILE_NAME:
            most = f"a file name has at most {LONGEST_FILE_NAME}"
            yield Problem(
                (*where, "backbones"), f"the names joined have {length} characters, {most}: give shorter ones"
            )

    def check_sizes(self, where: Keys, dataset: str, entry: Config) -> Iterator[Problem]:
        splits = self.splits(dataset)
        if splits is None:
            return
        named = str(entry.get("protocol"))
        if missing := missing_splits(splits, named):
            fix = "protocol: merged" if missing == ["test"] else "another protocol"
            yield Problem((*where, "protocol"), f"{dataset} has no {missing[0]} split, which {named} needs: use {fix}")
            return
        train, _ = protocol_splits(list(splits), _protocol(entry, splits))
        known = _total([splits[split] for split in train])
        numbers = _as_list(entry.get("k"))
        yield from self.twice((*where, "k"), numbers)
        for k in numbers:
            if isinstance(k, int) and k < 1:
                yield Problem((*where, "k"), f"must be at least 1, got {k}")
            elif isinstance(k, int) and known is not None and k > known:
                yield Problem(
                    (*where, "k"), f"{k} clusters are more than the {known} images of {dataset} ({'+'.join(train)})"
                )
        for head in entry["heads"]:
            yield from self.check_batches(head, max((k for k in numbers if isinstance(k, int)), default=1), known)
            if self.head_facts(head).get("needs_neighbors"):
                wanted = self.section("heads")[head].get("neighbors")
                yield from _check_others(("heads", head, "neighbors"), wanted, f"{dataset} ({'+'.join(train)})", known)
        if "auto" in numbers:
            yield from self.check_range(dataset, train, known)

    def expand(self, entry: Config) -> Iterator[Run]:
        splits = self.splits(entry["dataset"])
        if splits is None:
            return
        seeds = tuple(seed_list(entry.get("seeds") if entry.get("seeds") is not None else self.config.get("seeds")))
        for backbones, head, k in product(entry["backbones"], entry["heads"], _as_list(entry["k"])):
            joint = tuple(_as_list(backbones))
            yield Run(entry["dataset"], joint, head, k, _protocol(entry, splits), seeds)


def _protocol(entry: Config, splits: dict[str, int | None]) -> str:
    return entry.get("protocol") or ("held-out" if "test" in splits else "merged")


def _total(sizes: list[int | None]) -> int | None:
    """Return the sum, if all are known."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _check_others(where: Keys, wanted: Any, images: str, count: int | None) -> Iterator[Problem]:
    """Check that an image has as many others as neighbors are wanted."""
    if isinstance(wanted, int) and count is not None and wanted >= count:
        yield Problem(where, f"{wanted} neighbors are wanted, an image of {images} has {count - 1} others: lower it")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def seed_list(seeds: Any) -> list[int]:
    """Return the seeds: `5` means 0 to 4, and a list is taken as it is; refused numbers give none."""
    if isinstance(seeds, bool) or (isinstance(seeds, int) and seeds > MOST_SEEDS):
        return []
    if isinstance(seeds, int):
        return list(range(seeds))
    return [seed for seed in seeds if isinstance(seed, int)] if isinstance(seeds, list) else []


def copies(source: str, files: list[str]) -> list[str]:
    """Return the places of a dataset's files, if they come from `source`: it is the one file, or holds them all."""
    return [source] if len(files) < 2 else [f"{source.rstrip('/')}/{file}" for file in files]
