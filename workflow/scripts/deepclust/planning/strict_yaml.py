"""Reading of experiment files in which nothing is lost without a word."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(SafeLoader):  # type: ignore[misc, valid-type]
    """A YAML loader to which duplicate keys are errors; YAML itself keeps the last one silently."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return a value; say where one stands that looks like a date but is none, which YAML itself does not."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error

    def flatten_mapping(self, node: Any) -> None:
        """Look at the keys of a mapping before `<<` puts others beside them, which they may override.

        Another mapping may merge this one first, which flattens it for good.
        """
        if not hasattr(node, "checked"):
            node.checked = True
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: Any) -> None:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "key is not a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)


def check_file(path: Path) -> list[str]:
    """Return problems of an experiment file that can be seen without knowing its meaning, one line each."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return [f"{path}: there is no such file"]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # as in UTF-16, which may be read as UTF-8 if it has no mark at its beginning
        return [f"{path}: is not UTF-8 (UTF-16, perhaps): save it as UTF-8"]
    try:
        content = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return [f"{path}{where}: {error.problem or 'is not valid YAML'}{_advice(error)}"]
    except yaml.YAMLError as error:
        return [f"{path}: is not valid YAML ({' '.join(str(error).split())})"]
    if content is None:
        return [f"{path}: is empty; see config.yaml for an example"]
    if not isinstance(content, dict):
        return [f"{path}: must be a mapping with keys such as 'datasets', got {type(content).__name__}"]
    return []


def _advice(error: yaml.MarkedYAMLError) -> str:
    """Return advice on the most frequent mistakes in YAML."""
    problem = str(error.problem)
    if "escape" in problem or "hexdecimal" in problem:
        return ": between double quotes a backslash begins an escape, so take single quotes"
    return ": if a tab stands there, indent with blanks" if "cannot start any token" in problem else ""


def experiment_text(config: dict[str, Any]) -> str:
    """Return an experiment as YAML, in the order of its keys."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=120)


def _plain(value: Any) -> Any:
    """Return a copy of a value, because YAML would write one that stands in two places as a reference."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
