"""The options of an experiment that each rule uses: one nested, sorted dict per rule, no more and no less.

Snakemake compares the set of a job's parameter values. One dict makes a change visible that flat parameters would hide,
such as two options that swap their values.
"""

import functools
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deepclust.core.addresses import local_path
from deepclust.core.errors import DeepclustError, closest, did_you_mean
from deepclust.core.figures import figures
from deepclust.core.files import json_digest, sha256_file
from deepclust.core.image_lists import read_list
from deepclust.planning import pretrained
from deepclust.planning.file_states import file_state, files_digest, folders_digest, listing_digest
from deepclust.planning.plan import Config, Plan, Run, copies, reading

HALF_WHITENED = (
    "half_whitened_neighbors"  # the neighbors that half-whitening heads read, and all clusters are judged by
)


class Flags(dict[str, Any]):
    """Options as a dict that prints as command-line flags: `{"epochs": 60}` becomes `--epochs 60`.

    To Snakemake it is a plain dict, recorded by its `repr`; in a shell command it looks like typed flags.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(_sorted(options))

    def __str__(self) -> str:
        return " ".join(_flags(self, ""))

    def __format__(self, spec: str) -> str:
        return str(self)


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _flags(options: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flags(value, f"{prefix}{key}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            separator = "=" if text.startswith(("-", "@")) else " "
            yield f"--{prefix}{key}{separator}{shlex.quote(text)}"


class Parameters:
    """The parameters of every rule of one experiment."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.config = plan.config
        archives = {key: wanted for _, _, key, wanted in self._archives()}
        self._downloads = archives | dict(self._downloaded_weights())
        self._runs = {run.path: run for run in plan.runs}

    def run(self, path: str) -> Run:
        """Return the run whose results are at `path`.

        Raises:
            DeepclustError: the experiment has no such run.
        """
        if path not in self._runs:
            raise DeepclustError(f"{path} is no run of this experiment: add it to runs{closest(path, self._runs)}")
        return self._runs[path]

    # --- data -----------------------------------------------------------------------------------------------------

    def _archives(self) -> Iterator[tuple[str, Config, str, Config]]:
        """Yield for each download its dataset, the facts of the loader, its key and the parameters of `download`."""
        for name, options in self.config["datasets"].items():
            archives = self.plan.dataset_facts(name).get("archives", [])
            source = options.get("source")
            given = [source] if isinstance(source, str) else source
            files = [archive["file"] for archive in archives]
            for number, archive in enumerate(archives):
                wanted = {
                    "sources": [copies(s, files)[number] for s in given] if given else archive["sources"],
                    "sha256": options.get("sha256") or archive.get("sha256"),
                    "md5": None if options.get("sha256") else archive.get("md5"),
                }
                yield name, archive, f"{json_digest(wanted)[:8]}/{archive['file']}", wanted

    def archives(self, dataset: str, split: str) -> list[str]:
        """Return the paths, below `resources/downloads`, of the downloads that a split is read from.

        They depend on the sources of the files, so that datasets share one download and a new source is a new file.

        Raises:
            DeepclustError: the experiment has no such dataset, or the dataset no such split.
        """
        if split not in (splits := self.plan.splits(dataset)):
            raise DeepclustError(f"{dataset} has no {split} split, only {', '.join(splits)}")
        found = [(archive, key) for name, archive, key, _ in self._archives() if name == dataset]
        return [key for archive, key in found if split in (archive["splits"] or [split])]

    def download(self, key: str) -> Flags:
        """Return the parameters of `download` for the archive at `key`.

        Raises:
            DeepclustError: the experiment has no such download.
        """
        if key not in self._downloads:
            raise DeepclustError(f"{key} is no download of this experiment{did_you_mean(key, self._downloads)}")
        return Flags(self._downloads[key])

    def local_sources(self, key: str) -> list[str]:
        """Return the states of the sources of an archive that are files here.

        There are none if a checksum fixes the content of the file: a copy made anew is the same file.
        """
        wanted = self._downloads[key]
        if wanted.get("md5") or wanted.get("sha256") not in {None, "any"}:
            return []
        paths = [path for path in map(local_path, wanted["sources"]) if path is not None]
        return [file_state(path) for path in paths]

    def prepare(self, dataset: str, split: str) -> Flags:
        """Return the parameters of `prepare`: the loader's options without those of the download, and the split."""
        options = self.config["datasets"][dataset]
        apart = {"source", "sha256"} | ({"on_overlap"} if split != "test" else set())
        return Flags({**{key: value for key, value in options.items() if key not in apart}, "split": split})

    def listings(self, dataset: str) -> list[str]:
        """Return digests of the folders and files that a dataset reads, so that a new image is noticed.

        Raises:
            DeepclustError: one of them cannot be read.
        """
        options = self.config["datasets"][dataset]
        node = self.plan.schema.definitions[f"loader.{options['loader']}"]["properties"]
        digests = []
        for key, schema in node.items():
            formats = {option.get("format") for option in [schema, *schema.get("anyOf", [])]}
            if formats & {"directory-path", "file-path"} and options.get(key):
                with reading("datasets", dataset, key):
                    digests += self._listing(dataset, Path(options[key]))
        return digests

    def _listing(self, dataset: str, path: Path) -> list[str]:
        """Return digests of the path in an option: a folder, or a file and, if it is a list, the images in it."""
        options, watch = self.config["datasets"][dataset], self.plan.dataset_facts(dataset)["watch"]
        if path.is_dir():
            if watch == "listed":
                return []
            return [folders_digest(path) if watch == "folders" else listing_digest(path, watch)]
        if not path.is_file():
            return []
        own = sha256_file(path)[:16]
        if watch != "listed":
            return [own]
        names = read_list(path, options["path_column"], options["label_column"])
        return [own, files_digest(Path(options["root"] or path.parent), names)]

    def loader_module(self, dataset: str) -> str:
        """Return the library module of a dataset's loader."""
        return self.plan.schema.module("loader", self.config["datasets"][dataset]["loader"])

    def backbones(self) -> list[str]:
        """Return the backbones that the runs read, and those that these start from."""
        used = {name for run in self.plan.runs for backbone in run.backbones for name in self.lineage(backbone)}
        return [name for name in self.config["backbones"] if name in used]

    def datasets(self) -> list[str]:
        """Return the datasets that the runs cluster, and those that their backbones are pretrained on."""
        clustered = {run.dataset for run in self.plan.runs}
        pretrained_on = {self.config["backbones"][name].get("dataset") for name in self.backbones()}
        return [name for name in self.config["datasets"] if name in clustered | pretrained_on]

    def needed_archives(self) -> list[str]:
        """Return the paths, below `resources/downloads`, of the archives of the datasets that the runs need."""
        needed = set(self.datasets())
        return sorted({key for name, _, key, _ in self._archives() if name in needed})

    # --- backbones and features -----------------------------------------------------------------------------------

    def backbone_module(self, backbone: str) -> str:
        """Return the library module of a backbone's method."""
        return self.plan.schema.module("backbone", self.config["backbones"][backbone]["method"])

    def is_fetched(self, backbone: str) -> bool:
        """Tell whether rule `fetch_weights` makes it."""
        return bool(self.config["backbones"][backbone]["method"] == pretrained.METHOD)

    def backbone_facts(self, backbone: str) -> Config:
        """Return the facts of a backbone's method (`needs_neighbors`, `needs_clusters`, `native_k`)."""
        return self.plan.schema.facts("backbone", self.config["backbones"][backbone]["method"])

    def is_pretrained_here(self, backbone: str) -> bool:
        """Tell whether rule `pretrain` makes it."""
        return ".pretraining." in self.backbone_module(backbone)

    def lineage(self, backbone: str) -> list[str]:
        """Return a backbone and those it starts from."""
        start = self.config["backbones"][backbone].get("start_from")
        return [backbone, *(self.lineage(start) if start else [])]

    def backbone(self, backbone: str) -> Flags:
        """Return the parameters of the rule that makes a backbone: all options but those of the extraction."""
        options = self.config["backbones"][backbone]
        options = {key: value for key, value in options.items() if key not in {"features", "resume_from"}}
        return Flags(pretrained.resolved(options) if self.is_fetched(backbone) else options)

    def launches_elsewhere(self) -> bool:
        """Tell whether pretraining is a job that its rule submits itself."""
        return bool(self.config["launcher"]["method"] != "here")

    def launcher(self) -> Flags:
        """Return the options of the start of pretraining, as flags of its command; Snakemake does not record them."""
        if not self.launches_elsewhere():
            return Flags({})
        options = self.config["launcher"]
        # Free-form: one value of the command line, not options of their own.
        return Flags({"launcher": {**options, "sbatch": json.dumps(options["sbatch"], sort_keys=True)}})

    def _weights_parts(self, backbone: str) -> Iterator[tuple[str, str, Config | None]]:
        """Yield part, path and download of each file of a fetched backbone's weights that is not on the hub."""
        for part, (address, sha256) in pretrained.files_of_weights(self.backbone(backbone)).items():
            wanted = pretrained.download_of(address, sha256)
            if wanted is None:
                yield part, str(pretrained.weights_path(address)), None
            else:
                yield part, f"{json_digest(wanted)[:8]}/{pretrained.file_name(address)}", wanted

    def _downloaded_weights(self) -> Iterator[tuple[str, Config]]:
        for name in filter(self.is_fetched, self.config["backbones"]):
            for _, key, wanted in self._weights_parts(name):
                if wanted is not None:
                    yield key, wanted

    def weights_files(self, backbone: str) -> dict[str, str]:
        """Return the files here that a fetched backbone is read from: `file`, and `tensors` beside it."""
        return {part: path for part, path, wanted in self._weights_parts(backbone) if wanted is None}

    def weights_downloads(self, backbone: str) -> dict[str, str]:
        """Return the keys of the downloads that a fetched backbone is read from, by part, without those on the hub."""
        return {part: key for part, key, wanted in self._weights_parts(backbone) if wanted is not None}

    def weights_states(self, backbone: str) -> list[str]:
        """Return the states of the files here that a fetched backbone is read from.

        There are none for a file whose content a checksum fixes: one in the options or, for tensors, one in the
        description beside them.
        """
        parts = pretrained.files_of_weights(self.backbone(backbone))
        unknown = [address for part, (address, sha256) in parts.items() if part == "file" and sha256 is None]
        return [file_state(path) for path in map(pretrained.weights_path, unknown) if path is not None]

    def trained_on(self, backbone: str) -> str:
        """Return the images that a backbone saw in training, and its supervision, in a few words for tables."""
        options = self.config["backbones"][backbone]
        if self.is_fetched(backbone):
            return pretrained.trained_on(options)
        if not self.is_pretrained_here(backbone):
            return "nothing"
        here = f"{options['dataset']} ({'+'.join(options['splits'])}), self-supervised, here"
        return f"{self.trained_on(options['start_from'])}; {here}" if options.get("start_from") else here

    def extract_features(self, backbone: str) -> Flags:
        """Return the parameters of `extract_features`."""
        return Flags(self.config["backbones"][backbone]["features"])

    def find_neighbors(self, dataset: str, backbone: str, splits: str, kind: str) -> Flags:
        """Return the parameters of `find_neighbors` for a kind of neighbors among splits.

        The kind is `neighbors` or `half_whitened_neighbors`; splits are joined like `train+test`.
        """
        options = self.config["neighbors"]
        half = {"half_whiten": True} if kind == HALF_WHITENED else {}
        wanted = self._wanted_neighbors[dataset, backbone, splits, kind]
        return Flags({**options, "k": max(options["k"], wanted), **half})

    @functools.cached_property
    def _wanted_neighbors(self) -> Counter[tuple[str, str, str, str]]:
        """Return the largest number of neighbors that any reader wants, for each dataset, backbone, splits and kind."""
        most: Counter[tuple[str, str, str, str]] = Counter()
        for file, wanted in self._readers_of_neighbors():
            most[file] = max(most[file], wanted)
        return most

    def _readers_of_neighbors(self) -> Iterator[tuple[tuple[str, str, str, str], int]]:
        for run in self.plan.runs:
            if kind := self.neighbors_of(run.head):
                train, _ = self.plan.run_splits(run.dataset, run.protocol)
                for backbone in run.backbones:
                    wanted = self.config["heads"][run.head]["neighbors"]
                    yield (run.dataset, backbone, "+".join(train), kind), wanted
        for name, options in self.config["backbones"].items():
            if self.backbone_facts(name).get("needs_neighbors"):
                for split in options["splits"]:
                    yield (options["dataset"], options["start_from"], split, "neighbors"), options["nearest"]

    # --- clustering and after -------------------------------------------------------------------------------------

    def head_module(self, head: str) -> str:
        """Return the library module of a head's method."""
        return self.plan.schema.module("head", self.config["heads"][head]["method"])

    def head_facts(self, head: str) -> Config:
        """Return the facts of a head (`needs_neighbors`, `max_backbones`)."""
        return self.plan.schema.facts("head", self.config["heads"][head]["method"])

    def neighbors_of(self, head: str) -> str | None:
        """Return the kind of neighbors that a head reads, half-whitened if it half-whitens; None: it needs none."""
        if not self.head_facts(head).get("needs_neighbors"):
            return None
        half = self.config["heads"][head].get("normalize") == "half_whiten"
        return HALF_WHITENED if half else "neighbors"

    def choose_k(self, dataset: str, backbones: list[str], protocol: str) -> Flags:
        """Return the parameters of `choose_k`."""
        train, _ = self.plan.run_splits(dataset, protocol)
        return Flags({**self.config["choose_k"], "train": train, "backbones": backbones})

    def cluster(self, run: Run) -> Flags:
        """Return the parameters of `cluster`."""
        train, _ = self.plan.run_splits(run.dataset, run.protocol)
        splits = self.plan.all_splits(run.dataset, run.protocol)
        names = {"seeds": run.seeds, "train": train, "splits": splits, "backbones": run.backbones}
        given = {} if run.k == "auto" else {"k": run.k}
        return Flags({**self.config["heads"][run.head], **names, **given})

    def probed_layers(self) -> list[tuple[str, str]]:
        """Return datasets and backbones whose stages are probed: each dataset that runs cluster by the backbone."""
        wanted = self.config["evaluation"]["layer_probe"]["backbones"]
        pairs = [(run.dataset, backbone) for run in self.plan.runs for backbone in run.backbones]
        return [pair for pair in dict.fromkeys(pairs) if pair[1] in wanted]

    def probe_layers(self) -> Flags:
        """Return the parameters of `probe_layers`."""
        options = self.config["evaluation"]["layer_probe"]
        return Flags({key: value for key, value in options.items() if key != "backbones"})

    def probe(self) -> Flags:
        """Return the parameters of `probe`."""
        return Flags(self.config["evaluation"]["probe"])

    def snapshots(self) -> list[tuple[str, str]]:
        """Return datasets and backbones with snapshots: all datasets that runs cluster with such a backbone."""
        used = {(run.dataset, name) for run in self.plan.runs for each in run.backbones for name in self.lineage(each)}
        return sorted(pair for pair in used if self.config["backbones"][pair[1]].get("snapshot_every"))

    def snapshot_splits(self, dataset: str) -> tuple[str, str]:
        """Return the split that snapshots learn from, and the one that they are scored on."""
        train, score = self.plan.run_splits(dataset, "held-out")
        return train[0], (score or train)[0]

    def score_snapshots(self) -> Flags:
        """Return the parameters of `score_snapshots`."""
        return Flags({**self.config["evaluation"]["probe"], **self.config["evaluation"]["snapshots"]})

    def evaluate(self, run: Run) -> Flags:
        """Return the parameters of `evaluate`: options of the scores, and facts of the run for `metrics.json`."""
        apart = {"probe", "layer_probe", "snapshots"}
        options = {key: value for key, value in self.config["evaluation"].items() if key not in apart}
        _, score = self.plan.run_splits(run.dataset, run.protocol)
        names = {"dataset": run.dataset, "backbones": run.backbones, "head": run.head}
        names["nearest"] = self.config["neighbors"]["k"]
        names["splits"] = self.plan.all_splits(run.dataset, run.protocol)
        names["k_by"] = "auto" if run.k == "auto" else "experiment"
        names["trained_on"] = [self.trained_on(backbone) for backbone in run.backbones]
        published = self.plan.dataset_facts(run.dataset).get("published_as")
        return Flags({**options, **names, "protocol": run.protocol, "score": score, "published_as": published})

    def report(self, part: str, **more: Any) -> Flags:
        """Return the options of one part of the report (`map` or `page`), and `more` that it needs."""
        options = self.config["report"]
        return Flags({**{key: options[key] for key in options if key.startswith(f"{part}_")}, **more})

    def figures(self, names: Iterable[str], **more: Any) -> Flags:
        """Return the options of figures, and `more` that they need.

        Raises:
            DeepclustError: an option is not in the schema of experiments.
        """
        keys = [key for name in names for key in figures()[name].options]
        if unknown := [key for key in keys if key not in self.config["report"]]:
            raise DeepclustError(
                f"a figure has the new option {unknown[0]}: write the schema anew with `make generate`"
            )
        return Flags({**{key: self.config["report"][key] for key in keys}, **more})
