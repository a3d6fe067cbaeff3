"""Tensors of foreign weight files, and how they fit a network.

Files come from many training codes: as safetensors or .pth, with the backbone's tensors below `state_dict`, `model`,
`teacher`, `module.`, `backbone.`, `encoder_q.` and the like, among those of other networks, heads and optimizers.
"""

import argparse
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepclust.core.errors import DeepclustError

Tensors = dict[str, Tensor]

# If a file has several networks, the one with the earliest of these words in its prefix is the backbone: the average
# over training if its publishers evaluate that (DINO, iBOT, MSN), else the trained encoder (MoCo).
_PREFERRED = ("teacher", "target_encoder", "base_encoder", "encoder_q", "model_ema")
_LAST = ("student", "momentum_encoder", "encoder_k", "predictor")
_COUNTER = "num_batches_tracked"  # old files lack these of batch normalisation; inference does not need them
_PATCHES = "patch_embed.proj.weight"  # of each network that timm resamples to other patches
# Tensors that may be left over, beside the network's own classifiers: heads, prototypes, decoders, queues and tokens of
# pretraining.
_HEADS = re.compile(
    r"(head|heads|head_dist|fc|classifier|pre_logits|projection_head|projector|proj_head|prototypes\d*|pred|predictor"
    r"|decoder\w*|mask_token|masked_embed|projection_mlp|contrastive_head|online_classifier|queue|queue_ptr)(\.|$)"
)


_CHUNKED = re.compile(r"((?:.*\.)?blocks\.)(\d+)\.(\d+)(\..*)")  # before, chunk, block, after
_NUMBERED = re.compile(r"((?:[^.\d][^.]*\.)*)(\d+)(\..*)")  # before, number, after


class _Number:
    """Placeholder of a number of numpy, or its type: it is never read, so no code of numpy runs on a file's bytes."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


# Training scripts save these beside tensors: their options, and the best accuracy as numpy (1 or 2) computed it.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    (_Number, "numpy.dtype"),
    (_Number, "numpy.core.multiarray.scalar"),
    (_Number, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class Fit:
    """The fit of a file's tensors to a network.

    Attributes:
        tensors: those that the network gets, by its own names.
        prefix: their prefix in the file, with its final dot.
        dropped: names that are knowingly left over.
        problems: why they do not fit; empty if they do.
    """

    tensors: Tensors
    prefix: str
    dropped: list[str]
    problems: dict[str, list[str]]

    @property
    def misfits(self) -> int:
        """Return the number of tensors that do not fit."""
        return sum(map(len, self.problems.values()))


def read_tensors(path: Path) -> Tensors:
    """Read all tensors of a .safetensors or .pth file; nested mappings become names with dots.

    Raises:
        DeepclustError: the file is damaged, is neither, or holds objects that only running code could read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    content = _read_safetensors(path) if head[8:] == b"{" else _read_torch(path)
    tensors = dict(_flat(content, ""))
    if not tensors:
        raise DeepclustError(f"{path} holds no tensors")
    return tensors


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DeepclustError(f"{path} is damaged ({error}): delete it and get it again") from error


def _read_torch(path: Path) -> Any:
    if not path.stat().st_size:
        raise DeepclustError(f"{path} is empty, so damaged: delete it and get it again")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            # Mapped, a file that also holds an optimizer's state takes no more memory than the network.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise DeepclustError(
                f"{path} holds more than tensors ({found[1]}), and reading that could run code: take the tensors out "
                "where it was made (torch.save(checkpoint['state_dict']), or safetensors)"
            ) from error
        raise DeepclustError(f"{path} is damaged, or neither safetensors nor PyTorch weights") from error
    except Exception as error:  # whatever the reader makes of bytes that are no archive
        raise DeepclustError(f"{path} is damaged, or neither safetensors nor PyTorch weights ({error})") from error


def _flat(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flat(value, f"{prefix}{key}.")


def fit(
    network: nn.Module, tensors: Tensors, prefix: str | None, convert: Callable[[Tensors, nn.Module], Tensors] | None
) -> Fit:
    """Find the best fit of a file's tensors to a network, by their names or by the names that other codes give them.

    Args:
        tensors: from `read_tensors`.
        prefix: the prefix of the network's tensors in the file; None: found by their names.
        convert: turns tensors of other codes into those of the network (timm's `checkpoint_filter_fn`).

    Raises:
        DeepclustError: several networks in the file fit equally well.
    """
    found = _fit(network, tensors, prefix, convert)
    for spelled in (_without_chunks(tensors), _by_name(network, tensors)) if found.misfits else ():
        if len(spelled) == len(tensors):  # else two names have become one
            other = _fit(network, spelled, prefix, convert)
            found = found if other.misfits else other
    return found


def _without_chunks(tensors: Tensors) -> Tensors:
    """Rename `blocks.1.6.` to `blocks.6.`: DINOv2 trained its blocks in chunks, whose numbers come before theirs."""
    found = {name: match for name in tensors if (match := _CHUNKED.fullmatch(name))}
    blocks = sorted({(match[1], int(match[2]), int(match[3])) for match in found.values()})
    earlier = Counter[str]()
    places = {}
    for before, chunk, block in blocks:
        places[before, chunk, block] = earlier[before]
        earlier[before] += 1
    names = {n: f"{m[1]}{places[m[1], int(m[2]), int(m[3])]}{m[4]}" for n, m in found.items()}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _by_name(network: nn.Module, tensors: Tensors) -> Tensors:
    """Rename `4.0.conv1.weight` to `layer1.0.conv1.weight`: `nn.Sequential(*network.children())` numbers children."""
    children = [name for name, _ in network.named_children()]
    matches = {name: match for name in tensors if (match := _NUMBERED.fullmatch(name))}
    names = {n: f"{m[1]}{children[int(m[2])]}{m[3]}" for n, m in matches.items() if int(m[2]) < len(children)}
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _fit(
    network: nn.Module, tensors: Tensors, prefix: str | None, convert: Callable[[Tensors, nn.Module], Tensors] | None
) -> Fit:
    """Find the best fit of tensors with names as they are; see `fit`."""
    prefixes = [prefix.rstrip(".") + "." if prefix else ""] if prefix is not None else _prefixes(network, tensors)
    fits = [_fit_below(network, tensors, item, convert) for item in prefixes]
    fewest = min(item.misfits for item in fits)
    best = sorted((item for item in fits if item.misfits == fewest), key=lambda item: _rank(item.prefix))
    if len(best) > 1 and not fewest and _rank(best[0].prefix) == _rank(best[1].prefix):
        raise DeepclustError(
            f"the file holds several such networks, at {' and '.join(item.prefix for item in best)}: say which (prefix)"
        )
    return best[0]


def _prefixes(network: nn.Module, tensors: Tensors) -> list[str]:
    """Return the prefixes with which the network's most particular name stands in the file."""
    names = [name for name in network.state_dict() if not name.endswith(_COUNTER)]
    anchor = max(names, key=lambda name: (name.count("."), len(name)))
    found = [name.removesuffix(anchor) for name in tensors if name.endswith(anchor)]
    found = [prefix for prefix in found if not prefix or prefix.endswith(".")]
    wrappers = [prefix for prefix in ("", "state_dict.", "model.") if any(n.startswith(prefix) for n in tensors)]
    return found or wrappers


def _rank(prefix: str) -> int:
    words = prefix.split(".")
    if any(word in words for word in _LAST):
        return len(_PREFERRED) + 1
    return next((rank for rank, word in enumerate(_PREFERRED) if word in words), len(_PREFERRED))


def _fit_below(
    network: nn.Module, tensors: Tensors, prefix: str, convert: Callable[[Tensors, nn.Module], Tensors] | None
) -> Fit:
    chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    plain = _compare(network, chosen, prefix)
    if not plain.problems or convert is None or not chosen:
        return plain
    try:
        converted = convert(dict(chosen), network)
    except (KeyError, RuntimeError, AttributeError, AssertionError, IndexError, TypeError, ValueError):
        return plain  # no code that timm knows wrote them: the problems of the plain names say more
    after = _compare(network, converted, prefix)
    if after.misfits >= plain.misfits:
        return plain
    other = _other_patches(network, chosen)
    return replace(after, tensors={}, problems=after.problems | {"of another patch size": [other]}) if other else after


def _other_patches(network: nn.Module, tensors: Tensors) -> str | None:
    """Return the patch sizes of a file and a network if they differ: timm resamples kernels between them unasked."""
    expected = network.state_dict().get(_PATCHES)
    if expected is None or expected.ndim != 4:
        return None
    # By shape, because other codes name the kernels otherwise.
    kernels = [t.shape[2:] for t in tensors.values() if t.ndim == 4 and t.shape[:2] == expected.shape[:2]]
    if not kernels or expected.shape[2:] in kernels:
        return None
    found, wanted = ("x".join(map(str, size)) for size in (kernels[0], expected.shape[2:]))
    return f"{found} for {wanted} pixels (choose a model, or its argument patch_size, with patches of {found})"


def _compare(network: nn.Module, tensors: Tensors, prefix: str) -> Fit:
    expected: Tensors = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.endswith(_COUNTER)}
    tensors = counters | tensors
    surplus = sorted(tensors.keys() - expected.keys())
    classifiers = _classifiers(network)
    dropped = [name for name in surplus if name.startswith(classifiers) or _HEADS.match(name)]
    problems = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "unexpected": sorted(set(surplus) - set(dropped)),
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} for {tuple(expected[name].shape)}"
            for name in sorted(expected.keys() & tensors.keys())
            if tensors[name].shape != expected[name].shape
        ],
    }
    problems = {what: names for what, names in problems.items() if names}
    fitting = {} if problems else {name: tensors[name].to(expected[name].dtype) for name in expected}
    return Fit(fitting, prefix, dropped, problems)


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of a network's own classifiers: `last_linear.`, or `head.` and `aux_head.`."""
    names = getattr(network, "default_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
