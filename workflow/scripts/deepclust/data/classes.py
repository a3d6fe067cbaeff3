"""Names of classes that mean the same in every split of a dataset.

Each split is prepared by a job of its own. Therefore every loader asks for the names in all sources of the dataset, for
any split: every job comes to the same list.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Map each name as it is written to the name of its class.

    Unicode has two forms of `ö`, and programs write a whole number as `0` or, in a column with gaps, as `0.0`. If some
    class is there in two spellings, all get the composed form (NFC) and lose the zeros; else all stay as they are.
    """
    written = set(names)
    plain = {name: _plain(name) for name in written}
    return plain if len(set(plain.values())) < len(written) else {name: name for name in written}


def _plain(name: str) -> str:
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else unicodedata.normalize("NFC", name)


def in_alphabetical_order(names: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """Return the classes, and the place in them of each name as it is written."""
    spelling = one_spelling(names)
    classes = sorted(set(spelling.values()))
    places = {name: place for place, name in enumerate(classes)}
    return classes, {name: places[plain] for name, plain in spelling.items()}


def one_order(lists: Sequence[Sequence[str]]) -> tuple[list[str], list[list[int]]]:
    """Return one list of all classes, and for each of `lists` the places of its names in it.

    The first list comes first, then what others add. If all lists are the same, that is the list.
    """
    if all(names == lists[0] for names in lists):
        return list(lists[0]), [list(range(len(names))) for names in lists]
    spelling = one_spelling(name for names in lists for name in names)
    places: dict[str, int] = {}
    numbers = [[places.setdefault(spelling[name], len(places)) for name in names] for names in lists]
    return list(places), numbers
