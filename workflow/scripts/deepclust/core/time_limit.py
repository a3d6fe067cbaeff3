"""Time limit of a job, and the time between two of its checkpoints.

A batch system tells a job's processes little about its time limit, so the workflow hands it over (`--minutes`).
"""

import os
import time

from deepclust.core.errors import DeepclustError

STARTED = time.monotonic()  # of this process, but for its first imports
CHECKPOINT_SECONDS = 300.0
RESERVE_SECONDS = 120.0  # for what comes before this process starts, the current step, and writing the state
RESERVE_SHARE = 0.2  # of the time limit at most, where that is short


def default_checkpoint_seconds() -> float:
    """Return the time between two checkpoints: 5 minutes, or `DEEPCLUST_CHECKPOINT_SECONDS`.

    Raises:
        DeepclustError: that variable is not a positive number.
    """
    text = os.environ.get("DEEPCLUST_CHECKPOINT_SECONDS", "")
    try:
        seconds = float(text or CHECKPOINT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise DeepclustError(f"DEEPCLUST_CHECKPOINT_SECONDS={text}: give a positive number of seconds")
    return seconds


def seconds_left(minutes: float) -> float:
    """Return how long a job with this time limit can still work before it has to save its state; at least a second."""
    reserve = min(RESERVE_SECONDS, RESERVE_SHARE * 60 * minutes)
    return max(60 * minutes - reserve - (time.monotonic() - STARTED), 1.0)
