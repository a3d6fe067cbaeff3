"""Reasons of jobs in words.

Snakemake prints changed parameters as a whole, and every file that is missing or newer.
"""

import json
import logging
import re
from ast import literal_eval
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from deepclust.core.errors import some_of
from deepclust.planning.jobs import STATES
from deepclust.planning.layout import rule_of

LONGEST = 500  # characters of a reason
_FILES, _CHANGES = 2, 4  # that a reason names
_VALUE = 40  # characters of an option's value

_CODE = re.compile(r"[A-Za-z0-9_.]+:[0-9a-f]{16}")

Job = Any  # Snakemake's


@dataclass(frozen=True)
class Change:
    """Something that a job depends on and that has changed.

    Attributes:
        what: its name in words, e.g. `option seeds` or `code of heads.temi`.
        values: its old and new value, if they can be read.
    """

    what: str
    values: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.values}".rstrip()


def is_code(parameter: str) -> bool:
    """Tell whether a recorded parameter is part of a code fingerprint, or says nothing at all (an empty list)."""
    return _is_code(literal_eval(parameter))


def _is_code(value: Any) -> bool:
    return all(isinstance(item, str) and _CODE.fullmatch(item) for item in _as_list(value))


def changes(params: Any, job: Job) -> list[Change]:
    """Return the changes behind changed parameters: modules of code, options, or files of the user's.

    Args:
        params: Snakemake's record of parameters that only the old or only the new job has.
        job: the job, whose rule and wildcards tell what files it watches.
    """
    old, new = (list(map(_value, items)) for items in (params.only_old, params.only_new))
    before, after = ([_flat(value) for value in values if isinstance(value, dict)] for values in (old, new))
    found = list(dict.fromkeys(change for a in before for b in after for change in _options(a, b)))
    if any(not isinstance(value, dict) and not _is_code(value) for value in old + new):
        found.append(Change(_watched(job)))
    modules = {entry.rpartition(":")[0] for entry in _code(old) ^ _code(new)}
    found += [Change(f"code of {name.removeprefix('deepclust.')}") for name in sorted(modules)]
    return found or [Change("parameters")]


def _value(parameter: str) -> Any:
    try:
        return literal_eval(parameter)
    except (SyntaxError, ValueError):  # of a version that recorded something else
        return parameter


def _code(values: Iterable[Any]) -> set[str]:
    return {entry for value in values if _is_code(value) for entry in _as_list(value)}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options as `section.option`."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found


def _options(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield Change(f"option {key}", f"({_cut(_written(old), _VALUE)}, now {_cut(_written(new), _VALUE)})")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _watched(job: Job) -> str:
    """Return the name of the things whose digests are among a job's parameters."""
    rule = rule_of(job)
    return STATES[rule].what.format(**job.wildcards_dict) if rule in STATES else "parameters"


def told(dag: Any, job: Job) -> str:
    """Return a job's reason in at most `LONGEST` characters: Snakemake's, with changes in words and few files."""
    reason = dag.reason(job)
    if reason.forced:
        return "Forced execution"
    files = {
        "Missing output files": reason.missing_output,
        "Incomplete output files": reason.incomplete_output,
        "Updated input files": reason.updated_input - reason.updated_input_run,
        "Input files updated by another job": reason.updated_input_run,
    }
    parts = []
    if reason.params_changed:
        names = [str(change) for change in changes(reason.params_changed, job)]
        parts.append(f"Changed since last execution: {some_of(names, _CHANGES)}")
    parts += [f"{title}: {some_of(sorted(map(str, paths)), _FILES)}" for title, paths in files.items() if paths]
    if reason.code_changed:
        parts.append("Command of the rule has changed since last execution")
    if reason.input_changed:
        parts.append("Set of input files has changed since last execution")
    if reason.software_stack_changed:
        parts.append("Software environment definition has changed since last execution")
    return _cut("; ".join(parts) or str(reason), LONGEST)


class ReasonsInWords(logging.Filter):
    """A filter that puts `told` in place of the reason in Snakemake's log records of jobs, for every display."""

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        self._workflow = workflow
        self._jobs: dict[int, Job] = {}

    @classmethod
    def install(cls, workflow: Any) -> None:
        """Install the filter for this workflow's jobs, in place of that for an earlier one's."""
        for earlier in [found for found in logger.filters if isinstance(found, cls)]:
            logger.removeFilter(earlier)
        logger.addFilter(cls(workflow))

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, that of a job with its reason in words."""
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            number: int = record.jobid  # type: ignore[attr-defined]
            dag = self._workflow.dag
            if number not in self._jobs:
                self._jobs = {dag.jobid(job): job for job in dag.jobs}
            record.reason = told(dag, self._jobs[number])
        return True
