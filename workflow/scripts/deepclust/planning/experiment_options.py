"""The parts of an experiment file that belong to no single stage."""

from typing import Annotated, Literal

from pydantic import Field

from deepclust.core.options import Options

# Names become parts of paths and of HTML pages; `+` joins backbones in paths.
LONGEST_NAME = 100
NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9_.\-]{{0,{LONGEST_NAME - 1}}}$"


class RunOptions(Options):
    """Runs: one dataset with every combination of the named backbones, heads and numbers of clusters."""

    dataset: str
    """Name of the dataset to cluster."""
    backbones: list[str | Annotated[list[str], Field(min_length=1)]] = Field(min_length=1)
    """Names of backbones. A list inside the list is one run that reads several backbones together."""
    heads: list[str] = Field(min_length=1)
    """Names of clustering heads."""
    k: int | Literal["auto"] | Annotated[list[int | Literal["auto"]], Field(min_length=1)]
    """Number of clusters, or a list of numbers. `auto`: chosen without labels on the features of the training splits,
    see `choose_k`."""
    protocol: Literal["held-out", "merged", "train", "with-unlabeled"] | None = None
    """Splits that a head is fitted on, and splits that are scored. `held-out`: fitted on train, scored on test.
    `merged`: fitted and scored on train and test together, which flatters the scores. `train`: fitted and scored on
    train alone, as usual for ImageNet-10 and ImageNet-Dogs. `with-unlabeled`: fitted on train and unlabeled together,
    scored on test (STL-10). By default held-out if the dataset has a test split, else merged."""
    seeds: int | list[int] | None = None
    """Seeds of these runs, if not those of the experiment."""


# protocol -> the splits that a head is fitted on, and those it is scored on, if the dataset has them
PROTOCOLS: dict[str, tuple[list[str], list[str]]] = {
    "held-out": (["train"], ["test"]),
    "with-unlabeled": (["train", "unlabeled"], ["test"]),
    "merged": (["train", "test"], ["train", "test"]),
    "train": (["train"], ["train"]),
}
