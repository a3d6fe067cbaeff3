"""The one exception a user is meant to read, and how messages name some of many things."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class DeepclustError(Exception):
    """Bad input or an environment that does not fit.

    The message is one line: what is wrong, where, and what to do. Commands print it without a traceback and exit
    with status 1.
    """


def some_of(names: Sequence[str], most: int) -> str:
    """Return `a, b and 3 more`: the first `most` names, and how many others there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if something similar is known, else the list of all known names."""
    known = [str(item) for item in known]
    return closest(name, known) or (f" (known: {', '.join(known)})" if known else "")


def closest(name: Any, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if something similar is known, else nothing."""
    close = difflib.get_close_matches(str(name), sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
