"""What each rule uses of an experiment: one nested, sorted dict per rule, no more and no less.

Snakemake compares the set of a job's parameter values. One dict makes a change visible that flat parameters would hide,
such as two options that swap their values.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deepclust.common.image_files import image_paths
from deepclust.planning.plan import Config, Plan, Run, local_path


class Flags(dict[str, Any]):
    """Options as a dict that prints as command-line flags: `{"epochs": 60}` becomes `--epochs 60`.

    To Snakemake it is a plain dict, recorded by its `repr`; in a shell command it is what a person would type.
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
        self._downloads = {key: options for _, key, options in self._archives()}
        self._runs = {run.path: run for run in plan.runs}

    def run(self, path: str) -> Run:
        """The run whose results are at `path`."""
        return self._runs[path]

    # --- data -----------------------------------------------------------------------------------------------------

    def _archives(self) -> Iterator[tuple[str, str, Config]]:
        for name, options in self.config["datasets"].items():
            archive = self.plan.dataset_facts(name).get("archive")
            if archive is not None:
                source = options.get("source")
                wanted = {
                    "sources": [source] if isinstance(source, str) else source or archive["sources"],
                    "sha256": options.get("sha256") or archive.get("sha256"),
                    "md5": None if options.get("sha256") else archive.get("md5"),
                }
                yield name, _digest(wanted)[:8] + "/" + archive["file"], wanted

    def archive(self, dataset: str) -> str | None:
        """Path of a dataset's archive below `resources/downloads`, None where nothing is downloaded.

        It depends on where the archive comes from, so that datasets share one download and a new source is a new file.
        """
        return next((key for name, key, _ in self._archives() if name == dataset), None)

    def download(self, key: str) -> Flags:
        """Parameters of `download` for the archive at `key`."""
        return Flags(self._downloads[key])

    def local_sources(self, key: str) -> list[tuple[str, int, int]]:
        """Path, size and modification time of the sources of an archive that are files here."""
        paths = [path for source in self._downloads[key]["sources"] if (path := local_path(source)) is not None]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]

    def prepare(self, dataset: str, split: str) -> Flags:
        """Parameters of `prepare`: the loader's options without those of the download, and what a folder holds."""
        options = self.config["datasets"][dataset]
        rest = {key: value for key, value in options.items() if key not in {"source", "sha256"}}
        return Flags({**rest, "split": split})

    def folder_listings(self, dataset: str) -> list[str]:
        """Digests of the folders that a dataset reads, so that a new image is noticed."""
        options = self.config["datasets"][dataset]
        node = self.plan.schema.definitions[f"loader.{options['loader']}"]["properties"]
        folders = [
            options[key]
            for key, schema in node.items()
            if options.get(key) and "directory-path" in {o.get("format") for o in [schema, *schema.get("anyOf", [])]}
        ]
        return [listing_digest(Path(folder)) for folder in folders]

    def loader_module(self, dataset: str) -> str:
        """The library module of a dataset's loader."""
        return self.plan.schema.module("loader", self.config["datasets"][dataset]["loader"])

    def datasets(self) -> list[str]:
        """The datasets that the runs cluster, and those that their backbones are pretrained on."""
        clustered = {run.dataset for run in self.plan.runs}
        used = {name for run in self.plan.runs for backbone in run.backbones for name in self.lineage(backbone)}
        pretrained = {self.config["backbones"][name].get("dataset") for name in used}
        return [name for name in self.config["datasets"] if name in clustered | pretrained]

    # --- backbones and features -----------------------------------------------------------------------------------

    def backbone_module(self, backbone: str) -> str:
        """The library module of a backbone's method."""
        return self.plan.schema.module("backbone", self.config["backbones"][backbone]["method"])

    def is_pretrained_here(self, backbone: str) -> bool:
        """Whether rule `pretrain` makes it."""
        return ".pretraining." in self.backbone_module(backbone)

    def lineage(self, backbone: str) -> list[str]:
        """A backbone and those it starts from."""
        start = self.config["backbones"][backbone].get("start_from")
        return [backbone, *(self.lineage(start) if start else [])]

    def backbone(self, backbone: str) -> Flags:
        """Parameters of `pretrain` or `pixels`: everything but how its features are read out."""
        options = self.config["backbones"][backbone]
        return Flags({key: value for key, value in options.items() if key not in {"features", "resume_from"}})

    def extract_features(self, backbone: str) -> Flags:
        """Parameters of `extract_features`."""
        return Flags(self.config["backbones"][backbone]["features"])

    def find_neighbors(self) -> Flags:
        """Parameters of `find_neighbors`."""
        return Flags(self.config["neighbors"])

    # --- clustering and after -------------------------------------------------------------------------------------

    def head_module(self, head: str) -> str:
        """The library module of a head's method."""
        return self.plan.schema.module("head", self.config["heads"][head]["method"])

    def head_facts(self, head: str) -> Config:
        """What a head says about itself (`needs_neighbors`, `max_backbones`)."""
        return self.plan.schema.facts("head", self.config["heads"][head]["method"])

    def cluster(self, run: Run) -> Flags:
        """Parameters of `cluster`."""
        train, score = self.plan.run_splits(run.dataset, run.protocol)
        splits = train + [split for split in score if split not in train]
        names = {"k": run.k, "seeds": run.seeds, "train": train, "splits": splits, "backbones": run.backbones}
        return Flags({**self.config["heads"][run.head], **names})

    def probe(self) -> Flags:
        """Parameters of `probe`."""
        return Flags(self.config["evaluation"]["probe"])

    def evaluate(self, run: Run) -> Flags:
        """Parameters of `evaluate`: how a run is scored, and what `metrics.json` says about it."""
        options = {key: value for key, value in self.config["evaluation"].items() if key != "probe"}
        _, score = self.plan.run_splits(run.dataset, run.protocol)
        names = {"dataset": run.dataset, "backbones": run.backbones, "head": run.head, "k": run.k}
        published = self.plan.dataset_facts(run.dataset).get("published_as")
        return Flags({**options, **names, "protocol": run.protocol, "score": score, "published_as": published})

    def report(self, part: str, **more: Any) -> Flags:
        """The options of one part of the report (`map`, `gallery` or `page`), and what else it needs."""
        options = self.config["report"]
        return Flags({**{key: options[key] for key in options if key.startswith(f"{part}_")}, **more})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def listing_digest(folder: Path) -> str:
    """Digest of the names, sizes and modification times of all images below a folder."""
    digest = hashlib.sha256()
    for name in sorted(image_paths(folder)):
        status = (folder / name).stat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
