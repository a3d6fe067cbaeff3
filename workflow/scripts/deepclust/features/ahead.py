"""Work that is under way while its results are waited for in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(submit: Callable[[Item], "Future[Result]"], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield the results of `items` in their order; `ahead` more than the one that is waited for are under way.

    Work that has not begun is cancelled when an error, or the reader of the results, ends it.
    """
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
