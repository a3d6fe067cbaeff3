"""Check of an experiment against the generated JSON schema, which also fills in the defaults.

Planning validates against the schema rather than the pydantic models because the models stand beside code that imports
torch, and a plan must be there in a second. A problem has the path of its key.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema

from deepclust.core import registry
from deepclust.core.errors import did_you_mean
from deepclust.planning.experiment_options import LONGEST_NAME
from deepclust.planning.problems import Keys, Problem

PACKAGES = {"datasets": "data.loaders", "backbones": "pretraining", "heads": "heads"}  # whose files are all methods
SCHEMA_PATH = Path(__file__).resolve().parents[3] / "schemas" / "config.schema.json"


class Schema:
    """The JSON schema of experiment files, with the facts that planning reads from it."""

    def __init__(self, path: Path = SCHEMA_PATH) -> None:
        self.root: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.definitions: dict[str, dict[str, Any]] = self.root["$defs"]

    def resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follow a `$ref`."""
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].removeprefix("#/$defs/")]
        return schema

    def facts(self, kind: str, name: str) -> dict[str, Any]:
        """Return the facts of a method, e.g. `facts("loader", "cifar10")["splits"]`."""
        facts: dict[str, Any] = self.definitions[f"{kind}.{name}"]["x-facts"]
        return facts

    def module(self, kind: str, name: str) -> str:
        """Return the library module of a method, e.g. `deepclust.heads.kmeans`."""
        module: str = self.definitions[f"{kind}.{name}"]["x-module"]
        return module


def check_and_fill(config: dict[str, Any], schema: Schema) -> tuple[dict[str, Any], list[Problem]]:
    """Return the experiment with all defaults in it, and its problems.

    A string that looks like a number or a truth value is accepted if one is wanted: `--config` hands over strings, and
    YAML reads `1e-4` as one.
    """
    filled = _fill(config, schema.root, schema)
    return filled, list(_problems(filled, schema.root, schema, ()))


def _fill(value: Any, node: dict[str, Any], schema: Schema) -> Any:
    node = _choose(value, schema.resolve(node), schema)
    if isinstance(value, dict):
        properties, others = node.get("properties", {}), node.get("additionalProperties")
        filled = {}
        for key, item in value.items():
            child = properties.get(key, others if isinstance(others, dict) else {})
            filled[key] = _fill(_over_default(item, child), child, schema)
        for key, child in properties.items():
            if key not in filled and "default" in child:
                filled[key] = _fill(child["default"], child, schema)
        return filled
    if isinstance(value, list):
        lists = [schema.resolve(option) for option in node.get("anyOf", [node])]
        items: Any = next(
            (option["items"] for option in lists if option.get("type") == "array" and "items" in option), {}
        )
        return [_fill(item, items, schema) if isinstance(items, dict) else item for item in value]
    if isinstance(value, float) and value.is_integer() and "integer" in _types(node, schema):
        return int(value)
    return _coerce(_expanded(value), node, schema) if isinstance(value, str) else value


def _expanded(value: str) -> str:
    """Return a path below the home folder as a shell would take it; nothing else begins with `~/`."""
    return str(Path(value).expanduser()) if value.startswith("~/") else value


def _types(node: dict[str, Any], schema: Schema) -> set[str]:
    """Return the JSON types that a node allows; certain words, such as `auto`, are no text."""
    options = [schema.resolve(option) for option in node.get("anyOf", [node])]
    found = {str(option.get("type")) for option in options if not {"const", "enum"} & set(option)}
    return found - {"integer"} if "number" in found else found


def _over_default(value: Any, node: dict[str, Any]) -> Any:
    """Return a partly given nested section with the defaults of the method that it stands in."""
    default = node.get("default")
    return {**default, **value} if isinstance(default, dict) and isinstance(value, dict) else value


def _choose(value: Any, node: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the alternative of a discriminated union that `value` names."""
    discriminator = node.get("discriminator")
    if discriminator is None or not isinstance(value, dict):
        return node
    name = value.get(discriminator["propertyName"])
    reference = discriminator["mapping"].get(name) if isinstance(name, str) else None
    return schema.resolve({"$ref": reference}) if reference else {}


def _coerce(value: str, node: dict[str, Any], schema: Schema) -> Any:
    types = _types(node, schema)
    if "string" in types or not types & {"integer", "number", "boolean"}:
        return value
    if "boolean" in types and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    if "null" in types and value.lower() in {"null", "~"}:
        return None
    for kind, convert in (("integer", int), ("number", float)):
        if kind in types:
            try:
                return convert(value)
            except ValueError:
                continue
    return value


def _problems(value: Any, node: dict[str, Any], schema: Schema, path: Keys) -> Iterator[Problem]:
    """Yield all problems below `path`; a union's discriminator chooses first, so that messages stay specific."""
    node = schema.resolve(node)
    if "discriminator" in node and isinstance(value, dict):
        key = node["discriminator"]["propertyName"]
        known = list(node["discriminator"]["mapping"])
        if key not in value:
            yield Problem(path, f"needs '{key}' (one of {', '.join(known)})")
            return
        if value[key] not in known:
            yield Problem((*path, key), f"unknown {key} {value[key]!r}{_advice(path, value[key], known)}")
            return
        node = _choose(value, node, schema)
    if isinstance(value, dict) and ("properties" in node or isinstance(node.get("additionalProperties"), dict)):
        yield from _mapping_problems(value, node, schema, path)
        return
    validator = jsonschema.Draft202012Validator({**node, "$defs": schema.definitions})
    if isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"must be a finite number, got {value}")
        return
    errors = list(validator.iter_errors(value))
    for error in errors:
        yield from _descriptions(error, path)
    if not errors and len(node.get("prefixItems", [])) == 2 and value[0] > value[1]:
        yield Problem(path, f"must be [smallest, largest], got {json.dumps(value)}")


def _advice(path: Keys, name: object, known: list[str]) -> str:
    """Return what to do about an unknown method: one whose file is there has only not been generated yet."""
    if path[0] in PACKAGES and name in {file.stem for file in registry.files(PACKAGES[path[0]])}:
        return ", though its file is there: run `make generate`, which writes it into the schema"
    return did_you_mean(name, known)


def _mapping_problems(value: dict[str, Any], node: dict[str, Any], schema: Schema, path: Keys) -> Iterator[Problem]:
    properties, others = node.get("properties", {}), node.get("additionalProperties")
    pattern = node.get("propertyNames", {}).get("pattern", "")
    if not value and node.get("minProperties"):
        yield Problem(path, "must not be empty")
    for key, item in value.items():
        if not isinstance(key, str):
            yield Problem((*path, key), "a name must be a text: write it in quotes")
        elif pattern and not re.fullmatch(pattern.strip("^$"), key):
            allowed = f"1 to {LONGEST_NAME} letters, digits, '_', '-', '.' and start with a letter or digit"
            length = f", got {len(key)} characters" if len(key) > LONGEST_NAME else ""
            yield Problem((*path, key), f"names hold {allowed}{length}")
        elif key in properties:
            yield from _problems(item, properties[key], schema, (*path, key))
        elif isinstance(others, dict):
            yield from _problems(item, others, schema, (*path, key))
        else:
            yield Problem((*path, key), f"unknown key{did_you_mean(key, properties)}")
    for key in node.get("required", []):
        if key not in value:
            yield Problem(path, f"needs '{key}'")


def _descriptions(error: jsonschema.ValidationError, path: Keys) -> Iterator[Problem]:
    # The alternative of a union (`int or null`, `int or list`) that got furthest names the mistake.
    while error.context:
        error = max(error.context, key=lambda e: (len(e.absolute_path), e.validator not in {"type", "const"}))
    if error.validator != "additionalProperties":
        yield Problem((*path, *error.absolute_path), _describe(error))
        return
    known = error.schema.get("properties", {})
    for key in (key for key in error.instance if key not in known):
        yield Problem((*path, *error.absolute_path, key), f"unknown key{did_you_mean(key, known)}")


def _describe(error: jsonschema.ValidationError) -> str:
    got = json.dumps(error.instance, ensure_ascii=False, default=str)
    limit = error.validator_value
    messages = {
        "minimum": f"must be at least {limit}, got {got}",
        "exclusiveMinimum": f"must be greater than {limit}, got {got}",
        "maximum": f"must be at most {limit}, got {got}",
        "exclusiveMaximum": f"must be less than {limit}, got {got}",
        "minItems": f"needs at least {limit} item{'s' if limit != 1 else ''}, got {got}",
        "maxItems": f"takes at most {limit} item{'s' if limit != 1 else ''}, got {got}",
        "minLength": "must not be empty",
        "pattern": f"has a form that is not allowed: {got}",
    }
    if error.validator == "type":
        types = limit if isinstance(limit, list) else [limit]
        parent = error.parent
        if parent is not None and error.parent.validator == "anyOf":
            options = [item for item in parent.validator_value if "type" in item and item["type"] != "null"]
            types = [f"'{item['const']}'" if "const" in item else item["type"] for item in options]
        return f"must be {_a(types)}, got {got}"
    if error.validator in {"enum", "const"}:
        known = limit if isinstance(limit, list) else [limit]
        return f"must be one of {', '.join(map(str, known))}, got {got}{did_you_mean(error.instance, known)}"
    return messages.get(str(error.validator), str(error.message))


def _a(types: Iterable[str]) -> str:
    names = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
    names |= {"array": "a list", "object": "a mapping", "null": "null"}
    return " or ".join(names.get(kind, kind) for kind in types)


def undefined(section: str, name: Any, entries: Iterable[str]) -> str:
    """Return the message for the name of something that a section does not define."""
    return f"{section} defines no {name!r}{did_you_mean(name, entries)}"
