"""The one exception a user is meant to read, and how messages name some of many things."""

from collections.abc import Sequence


class DeepclustError(Exception):
    """Bad input or an environment that does not fit.

    The message is one line: what is wrong, where, and what to do. Commands print it without a traceback and exit
    with status 1.
    """


def some_of(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`: the first `most` names, and how many others there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
