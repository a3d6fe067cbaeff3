"""The choice of a number of clusters, as `choose_k` wrote it."""

from dataclasses import dataclass
from pathlib import Path

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json

CRITERIA = ("silhouette", "stability", "modularity", "eigengap", "mean_rank")


@dataclass(frozen=True)
class ChoiceOfK:
    """The result of `choose_k`.

    Attributes:
        numbers: numbers of clusters that were tried, ascending.
        criteria: a value for each number, by name of the criterion; `mean_rank` is their mean rank.
        images: number of images that were looked at.
    """

    k: int
    reason: str
    numbers: list[int]
    criteria: dict[str, list[float]]
    images: int


def read_choice(path: Path) -> ChoiceOfK:
    """Read the result of `choose_k`.

    Raises:
        DeepclustError: it is not such a file.
    """
    content = read_json(path)
    try:
        choice = ChoiceOfK(**content)
        complete = all(len(choice.criteria[name]) == len(choice.numbers) for name in CRITERIA)
    except (KeyError, TypeError) as error:
        raise DeepclustError(f"{path} is not a choice of k ({error}): delete it and run the workflow again") from error
    if not complete:
        raise DeepclustError(f"{path} lacks values of a criterion: delete it and run the workflow again")
    return choice
