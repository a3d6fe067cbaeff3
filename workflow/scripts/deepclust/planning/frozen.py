"""The plan, frozen for jobs that plan again, on another machine or in a process of their own.

A job on a cluster starts a Snakemake of its own, hours later, which reads the experiment and the code as they are then;
its results are recorded as Snakemake planned them. So it gets the plan: it goes by the planned experiment, and it
refuses to run under any other code than the planned one.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError
from deepclust.core.files import json_digest, write_text

VARIABLE = "DEEPCLUST_PLAN"  # the environment of jobs tells where the plan is


@dataclass(frozen=True)
class Frozen:
    """The plan."""

    config: dict[str, Any]
    """The experiment with all its defaults."""
    code: dict[str, str]
    """The code's digest by script and methods."""
    parts: dict[str, list[str]]
    """The files that features are put together from, by those of the features."""


def freeze(config: Mapping[str, Any], code: Mapping[str, str], parts: Mapping[str, list[str]], folder: Path) -> None:
    """Write the plan below `folder` and tell every process that is started from now on of it."""
    plan = asdict(Frozen(dict(config), dict(code), dict(parts)))
    path = folder.absolute() / f"plan-{json_digest(plan)[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(plan))
    os.environ[VARIABLE] = str(path)


def thaw() -> Frozen | None:
    """Return the plan that this process belongs to, if it was told of one.

    Raises:
        DeepclustError: this plan cannot be read.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        return Frozen(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DeepclustError(f"the plan {path} cannot be read ({error}): run snakemake again") from error
