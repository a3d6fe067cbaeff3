"""Planning of backbones that were trained elsewhere: presets, names of networks, sources of weights.

Both lists are data beside the code that uses them, so that neither timm nor torch is needed here.
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from deepclust.core.addresses import hub_address, hub_file, is_on_hub, local_path
from deepclust.core.errors import DeepclustError, closest, did_you_mean, some_of
from deepclust.core.limits import LONGEST_FILE_NAME
from deepclust.models.description import DESCRIPTION, beside, is_description, read_description
from deepclust.planning.downloads import looked_in
from deepclust.planning.problems import Keys, Problem

PROJECT = Path(__file__).resolve().parents[4]
BACKBONES = Path(__file__).resolve().parents[1] / "backbones"
PRESETS = BACKBONES / "presets.yaml"
NETWORKS = BACKBONES / "timm_models.txt"  # generated

NOT_OPTIONS = frozenset({"paper", "license", "note"})  # entries of a preset that are for people only
METHOD = "pretrained"
READING = frozenset({"image_size", "crop_fraction", "pooling", "layers"})  # keys that `features` has as well
LONGEST_DOWNLOAD = LONGEST_FILE_NAME - 55  # bytes of a file's name; those beside it have longer endings
_WITHOUT_CLASS_TOKEN = re.compile(r"resnet|convnext|swin|vit_.*_siglip")

Config = dict[str, Any]


@functools.cache
def presets() -> dict[str, Config]:
    """Return all presets by name."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    content: dict[str, Config] = yaml.load(PRESETS.read_text(encoding="utf-8"), loader)
    return content


@functools.cache
def networks() -> frozenset[str]:
    """Return the names of timm's networks, and of all that it has weights for (`network.tag`)."""
    return frozenset(NETWORKS.read_text(encoding="utf-8").split())


def resolved(options: Config) -> Config:
    """Return the options of a pretrained backbone with those of its preset, as its command takes them."""
    preset = presets().get(options["preset"], {}) if options["preset"] else _known(options)
    # Own weights may hold the same tensors in another file: the preset's entries on its own file do not hold.
    unused = NOT_OPTIONS | {"prefix", "sha256"} if options["weights"] else NOT_OPTIONS
    taken = {key: value for key, value in preset.items() if key not in unused and options[key] in (None, {})}
    filled = options | taken
    return {**filled, "arguments": json.dumps(filled["arguments"], sort_keys=True)}


def _known(options: Config) -> Config:
    """Return a preset's entries on the data of the weights that a model's tag means."""
    place = hub_address(f"timm/{options['model']}") + "/"
    same = (preset for preset in presets().values() if not options["weights"] and preset["weights"].startswith(place))
    return {key: value for key, value in next(same, {}).items() if key in {"data", "supervision"}}


def download_of(address: str, sha256: str | None) -> Config | None:
    """Return the parameters of rule `download` for a file on a server other than the hub; None for other files."""
    if not address.startswith(("http://", "https://")):
        return None
    return {"sources": [address], "sha256": sha256 or "any", "md5": None}


def file_name(address: str) -> str:
    """Return a name for the file at an address that needs no quotes in a shell; a long name keeps its end."""
    name = re.sub(r"[^\w.+=-]", "_", Path(unquote(urlsplit(address).path)).name) or "weights"
    return name.encode()[-LONGEST_DOWNLOAD:].decode(errors="ignore")


def files_of_weights(options: Config) -> dict[str, tuple[str, str | None]]:
    """Return the files of weights, if planning knows them: the address or path of each, and its SHA-256.

    `file` is the one that `weights` names; `tensors` lie beside it, if it is a backbone's description.
    """
    weights = options["weights"]
    if weights is None or is_on_hub(weights):
        return {}
    found = {"file": (weights, options["sha256"])}
    if is_description(weights):
        found["tensors"] = (beside(weights), None)  # the description knows their checksum
    return found


def weights_path(weights: str) -> Path | None:
    """Return the path of weights that are a file here; None for an address elsewhere.

    A file that comes with the project (`weights/`) is found from any working directory that has no such file itself.
    """
    path = local_path(weights)
    if path is None or path.is_absolute() or path.exists() or not (PROJECT / path).exists():
        return path
    return PROJECT / path


def trained_on(options: Config) -> str:
    """Return the images that a backbone was trained on elsewhere, and its supervision, in a few words for tables.

    They are in its description, if that is a file here.
    """
    options = resolved(options)
    data, supervision = options["data"], options["supervision"]
    if spec := _description(options["weights"]):
        splits = f" ({'+'.join(spec['splits'])})" if spec["splits"] else ""
        data = data or (spec["dataset"] and f"{spec['dataset']}{splits}")
        supervision = supervision or spec["supervision"]
    return f"{data or 'data not stated'}, {supervision or 'supervision not stated'}"


def network_of(options: Config) -> Config:
    """Return the options of pretraining for a network that was trained elsewhere; empty if only its files tell.

    Raises:
        DeepclustError: its description is a file here, but not a description.
    """
    if spec := _description(options.get("weights")):
        own = spec["architecture"]
        found = {"architecture": own["name"], "stem": own.get("stem"), "sobel": own.get("sobel", False)}
        return found if "stem" in own else {"architecture": own["name"]}
    model = options.get("model") or presets().get(str(options.get("preset")), {}).get("model")
    return {"architecture": model} if model else {}


def resize_and_crop(options: Config) -> tuple[int | None, float] | None:
    """Return the side in pixels to which a backbone scales images (None: as they are), and the fraction that it crops.

    Return None if only the files of its weights tell.

    Raises:
        DeepclustError: its description is a file here, but not a description.
    """
    known: Config = {"image_size": options.get("image_size"), "crop_fraction": 1.0}
    if options.get("method") == METHOD:
        own = {key: options.get(key) for key in known if options.get(key) is not None}
        described = _description(options.get("weights"))
        known = described or {**presets().get(str(options.get("preset")), {}), **own}
    features = {key: value for key, value in _mapping(options.get("features")).items() if value is not None}
    known = {**known, **features}
    if "image_size" not in known or "crop_fraction" not in known:
        return None
    return known["image_size"], known["crop_fraction"]


def _description(weights: str | None) -> Config | None:
    """Return the description that `weights` name, if it is a file here.

    Raises:
        DeepclustError: the file is no description.
    """
    path = weights_path(weights) if weights and is_description(weights) else None
    return None if path is None else read_description(path)


def check_pretrained(where: Keys, options: Config) -> Iterator[Problem]:
    """Yield the problems of a backbone of `method: pretrained`."""
    preset, model, weights = (options.get(key) for key in ("preset", "model", "weights"))
    if isinstance(weights, str) and is_description(weights):
        yield from _check_own(where, options)
        return
    if not preset and not model:
        yield Problem(
            where,
            "needs 'preset' (docs/backbones.md lists them), 'model' (a network of timm), or 'weights' that "
            f"are the {DESCRIPTION} of a backbone of this project",
        )
    if isinstance(preset, str):
        if preset not in presets():
            yield Problem((*where, "preset"), f"unknown preset {preset!r}{did_you_mean(preset, presets())}")
        for key in ("model", "arguments"):
            if options.get(key):
                yield Problem((*where, key), f"preset {preset} has its own: give one or the other")
    elif isinstance(model, str):
        yield from _check_model((*where, "model"), model, weights)
    if isinstance(weights, str):
        yield from _check_weights((*where, "weights"), weights)
    yield from _check_reading(where, options)
    yield from _check_abilities(where, options)
    mean, std = options.get("mean"), options.get("std")
    if bool(mean) != bool(std) or (isinstance(mean, list) and isinstance(std, list) and len(mean) != len(std)):
        yield Problem((*where, "mean"), "mean and std belong together: give both, one number per channel")


def _check_own(where: Keys, options: Config) -> Iterator[Problem]:
    """Check a backbone of this project: its description says all that is needed."""
    weights = options["weights"]
    known = {"method", "weights", "sha256", "data", "supervision", "features"}
    for key in sorted(key for key in options.keys() - known if options[key]):
        how = "features has what can be changed" if key in READING else "leave it out"
        yield Problem((*where, key), f"{weights} says itself how it is used: {how}")
    if is_on_hub(weights) and not _is_description_on_hub(weights):
        form = hub_address("owner/name[@revision]", DESCRIPTION)
        yield Problem((*where, "weights"), f"{weights} is no address on the hub: write {form}")
        return
    if local_path(weights) is None and not (options.get("data") and options.get("supervision")):
        needed = "give data and supervision (what it was trained on, and how), which tables need"
        yield Problem(where, f"what {weights} says is not known before it is fetched: {needed}")
    problems = [*_check_weights((*where, "weights"), weights), *_check_weights((*where, "weights"), beside(weights))]
    yield from problems[:1]
    if problems:
        return
    try:
        spec = _description(weights)
    except DeepclustError as error:
        yield Problem((*where, "weights"), str(error))
        return
    if spec is not None:
        own = {"model": spec["architecture"].get("model", spec["architecture"].get("name"))}
        own["arguments"] = spec["architecture"].get("arguments")
        reading = {key: spec[key] for key in ("pooling", "layers")} | {"features": options.get("features")}
        yield from _check_reading(where, reading)
        yield from _check_abilities(where, own | reading)


def _is_description_on_hub(address: str) -> bool:
    try:
        wanted = hub_file(address)
    except DeepclustError:
        return False
    return wanted is not None and is_description(wanted.file)


def _check_reading(where: Keys, options: Config) -> Iterator[Problem]:
    """Check the options of the extraction: a network's own head reads only its end."""
    features = _mapping(options.get("features"))
    preset = presets().get(str(options.get("preset")), {})
    chosen = [features.get("pooling"), options.get("pooling"), preset.get("pooling"), "head"]
    layers = features.get("layers") or options.get("layers") or preset.get("layers")
    if layers and next(pooling for pooling in chosen if pooling) == "head":
        yield Problem(
            (*where, "features", "layers"), "the network's own head reads no layers: choose features.pooling, e.g. avg"
        )


def _check_abilities(where: Keys, options: Config) -> Iterator[Problem]:
    """Check that a network can do what is asked, as far as its name in timm tells.

    Its command sees the rest before any download.
    """
    preset = presets().get(str(options.get("preset")), options)
    model = str(preset.get("model"))
    named = re.match(r"vit_.*_patch(\d+)", model)
    patch = _mapping(preset.get("arguments")).get("patch_size") or (int(named[1]) if named else 1)
    for place, part in ((where, options), ((*where, "features"), _mapping(options.get("features")))):
        if "class" in str(part.get("pooling")) and _WITHOUT_CLASS_TOKEN.match(model):
            yield Problem((*place, "pooling"), f"{model} has no class token: choose another, e.g. avg")
        side = part.get("image_size")
        if isinstance(side, int) and isinstance(patch, int) and side % patch:
            fitting = " or ".join(str(n * patch) for n in (side // patch, side // patch + 1) if n)
            yield Problem(
                (*place, "image_size"), f"{side} is no multiple of the patches' {patch} pixels: try {fitting}"
            )


def _mapping(value: Any) -> Config:
    """Return a nested section; empty if something else stands there, which the schema's check names."""
    return value if isinstance(value, dict) else {}


def _check_model(where: Keys, model: str, weights: Any) -> Iterator[Problem]:
    architecture, _, tag = model.partition(".")
    if architecture not in networks():
        untagged = [name for name in networks() if "." not in name]
        yield Problem(where, f"timm has no network {architecture!r}{closest(architecture, untagged)}")
        return
    if weights:
        return
    tags = sorted(name for name in networks() if name.startswith(f"{architecture}."))
    if not tag:
        known = f"add a tag ({some_of(tags, 4)}) or " if tags else ""
        yield Problem(where, f"{model} does not say which weights: {known}give weights")
    elif model not in tags:
        yield Problem(where, f"timm has no weights {tag!r} of {architecture}{did_you_mean(model, tags)}")


def _check_weights(where: Keys, weights: str) -> Iterator[Problem]:
    scheme = urlsplit(weights).scheme if "://" in weights else ""
    path = weights_path(weights)
    if path is not None and not path.is_file():
        yield Problem(where, f"there is no file {weights}{looked_in(path)}")
    elif is_on_hub(weights):
        try:
            hub_file(weights)
        except DeepclustError as error:
            yield Problem(where, str(error))
    elif path is None and scheme not in {"http", "https"}:
        yield Problem(where, f"{weights} is neither an address (hf, https, http, file) nor a path")
