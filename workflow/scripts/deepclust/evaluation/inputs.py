"""Checked inputs of the evaluation: features, labels and neighbors of one or several splits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json

UNKNOWN = -1  # label of an image whose class is not known
KINDS = {"f": "floating-point numbers", "i": "integers"}  # by dtype.kind
BLOCK = 8192  # rows of features in memory at a time


def load_array(path: Path, dimensions: int, kind: str) -> npt.NDArray:
    """Memory-map a .npy file and check its number of dimensions and the kind of its dtype (`f` or `i`).

    Raises:
        DeepclustError: it is not such a file.
    """
    try:
        array: npt.NDArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DeepclustError(
            f"{path} is not a readable .npy file ({error}): delete it and run the workflow again"
        ) from error
    if array.ndim != dimensions or array.dtype.kind != kind:
        raise DeepclustError(
            f"{path} holds {array.dtype} of shape {array.shape}, expected {dimensions} dimensions of {KINDS[kind]}"
        )
    return array


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Read the labels of one split, int64 [N]; `UNKNOWN`: the class is not known."""
    labels = load_array(path, 1, "i").astype(np.int64)
    if labels.size and labels.min() < UNKNOWN:
        raise DeepclustError(f"{path} holds label {labels.min()}: classes count from 0, {UNKNOWN} means unknown")
    return labels


def read_class_names(paths: Sequence[Path]) -> list[str]:
    """Read the names of the classes of several splits of a dataset: the longest list.

    If classes are only numbers, a split names them up to the highest that it holds.

    Args:
        paths: `classes.json` of each split: a list of names, empty without labels.

    Raises:
        DeepclustError: two splits call a class differently.
    """
    lists: list[list[str]] = [read_json(path) for path in paths]
    longest = max(lists, key=len, default=[])
    for path, names in zip(paths, lists):
        for number, (name, expected) in enumerate(zip(names, longest)):
            if name != expected:
                raise DeepclustError(
                    f"class {number} is {name!r} in {path} but {expected!r} in {paths[lists.index(longest)]}: "
                    "the splits of a dataset must agree about its classes"
                )
    return longest


def check_lengths(lengths: dict[str, int]) -> None:
    """Check that files that belong to the same images have the same number of rows.

    Raises:
        DeepclustError: they have different numbers of rows.
    """
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DeepclustError(f"these files have different numbers of images ({listed}): delete the outdated one")


def feature_count(files: Sequence[Path]) -> int:
    """Return the number of images in the feature files of one split, one file per backbone."""
    lengths = {str(path): len(load_array(path, 2, "f")) for path in files}
    check_lengths(lengths)
    return next(iter(lengths.values()))


def feature_dimension(files: Sequence[Path]) -> int:
    """Return the dimension of the concatenated features of several backbones."""
    return sum(int(load_array(path, 2, "f").shape[1]) for path in files)


def unit_features(
    files: Sequence[Path], rows: npt.NDArray[np.integer] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the features of one split as vectors of unit length, in blocks float32 [n, D].

    The features of each backbone are L2-normalised and then concatenated, so that every backbone weighs the same: the
    inner product of two rows is the mean of their cosines. A row of zeros stays zero.

    Args:
        files: `features.npy` of each backbone, [N, D_b].
        rows: the rows to read, in ascending order; all by default.

    Raises:
        DeepclustError: the files do not belong together, or hold values that are not finite.
    """
    count = feature_count(files)
    arrays = [load_array(path, 2, "f") for path in files]
    total = count if rows is None else len(rows)
    for start in range(0, total, BLOCK):
        wanted = slice(start, min(start + BLOCK, total)) if rows is None else rows[start : start + BLOCK]
        blocks = []
        for path, array in zip(files, arrays):
            block = array[wanted].astype(np.float64)  # squares of large features overflow float32
            norms = np.linalg.norm(block, axis=1, keepdims=True)
            if not np.isfinite(norms).all():
                raise DeepclustError(
                    f"{path} holds values that are not finite: delete it and extract the features again"
                )
            norms[norms == 0] = 1
            block /= norms
            blocks.append(block.astype(np.float32))
        yield blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1) * np.float32(len(blocks) ** -0.5)
