"""Write the files that are derived from the code: the config's JSON schema, its reference page, the environments.

Run it with `make generate` after changing an option; `--check` only tells whether the files are up to date.
"""

import argparse
import importlib
import json
import pkgutil
from types import ModuleType
from typing import Any

from pydantic import create_model

from deepclust.cli.backbones import NETWORKS, PAGE, network_names, page_with_table
from deepclust.cli.clone import CLONE
from deepclust.cli.envs import environment_files
from deepclust.cli.reference import reference_page
from deepclust.core.options import Options
from deepclust.evaluation.options import EvaluationOptions
from deepclust.features.options import ExtractionOptions, NeighborOptions
from deepclust.heads.kit.options import ChooseKOptions
from deepclust.planning.experiment_options import NAME_PATTERN, RunOptions
from deepclust.pretraining.launch.launcher_options import LauncherOptions
from deepclust.reporting.options import MapOptions, PageOptions

SCHEMA = CLONE / "workflow" / "schemas" / "config.schema.json"
REFERENCE = CLONE / "docs" / "options.md"

Json = dict[str, Any]

# kind of named thing: (section of the experiment, key that chooses the method, packages that hold the methods)
KINDS = {
    "loader": ("datasets", "loader", ["data.loaders"]),
    "backbone": ("backbones", "method", ["backbones", "pretraining"]),
    "head": ("heads", "method", ["heads"]),
}
SECTION_TITLES = {
    "loader": "Where the images come from. The loader decides which other keys a dataset has.",
    "backbone": "Networks that turn images into features. The method decides which other keys a backbone has.",
    "head": "Clustering heads on features. The method decides which other keys a head has.",
}


def methods(packages: list[str]) -> list[ModuleType]:
    """Return all modules of these packages that define a class `Options` of their own."""
    found = []
    for name in packages:
        package = importlib.import_module(f"deepclust.{name}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            options = getattr(module, "Options", None)
            if options is not None and options.__module__ == module.__name__:
                found.append(module)
    return found


def method_schema(kind: str, key: str, module: ModuleType, definitions: Json) -> str:
    """Add the schema of one method to `definitions`; return its name there."""
    name = module.__name__.rsplit(".", 1)[-1]
    options: type[Options] = module.Options
    if kind == "backbone":
        defaults = getattr(module, "EXTRACTION", ExtractionOptions())
        options = create_model(
            "Options", __base__=options, __doc__=options.__doc__, features=(ExtractionOptions, defaults)
        )
        options.model_fields["features"].description = "How images are turned into features."
        options.model_rebuild(force=True)
    schema = model_schema(options, f"{kind}.{name}", definitions)
    schema["properties"] = {key: {"const": name, "description": first_line(module)}, **schema["properties"]}
    schema["required"] = [key, *schema.get("required", [])]
    facts = getattr(module, "FACTS", None)
    schema["x-facts"] = facts.model_dump(mode="json") if facts is not None else {}
    schema["x-module"] = module.__name__
    definitions[f"{kind}.{name}"] = schema
    return f"{kind}.{name}"


def model_schema(model: type[Options], prefix: str, definitions: Json) -> Json:
    """Return the JSON schema of a model; the models nested in it go to `definitions` under `prefix`."""
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}", mode="validation")
    for name, definition in schema.pop("$defs", {}).items():
        definitions[f"{prefix}.{name}"] = definition
    return schema


def report_options() -> type[Options]:
    """Return the options of the report, those of its figures among them."""
    figures = [module.Options for module in methods(["reporting.figures"])]
    return create_model("ReportOptions", __base__=(MapOptions, *figures, PageOptions), __doc__="The report.")


def first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


def config_schema() -> Json:
    """Return the JSON schema of experiment files."""
    definitions: Json = {}
    properties: Json = {}
    for kind, (section, key, packages) in KINDS.items():
        names = [method_schema(kind, key, module, definitions) for module in methods(packages)]
        mapping = {name.split(".", 1)[1]: f"#/$defs/{name}" for name in names}
        definitions[kind] = {
            "type": "object",
            "required": [key],
            "discriminator": {"propertyName": key, "mapping": mapping},
            "oneOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        }
        properties[section] = {
            "type": "object",
            "description": SECTION_TITLES[kind],
            "minProperties": 1,
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": {"$ref": f"#/$defs/{kind}"},
        }
    definitions["run"] = model_schema(RunOptions, "run", definitions)
    properties["runs"] = {
        "type": "array",
        "description": "What to cluster with what.",
        "minItems": 1,
        "items": {"$ref": "#/$defs/run"},
    }
    properties["seeds"] = {
        "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}],
        "description": "Seeds of every run: a list, or their number (5 means 0 to 4).",
        "default": 5,
    }
    for section, model in (
        ("neighbors", NeighborOptions),
        ("choose_k", ChooseKOptions),
        ("evaluation", EvaluationOptions),
        ("report", report_options()),
        ("launcher", LauncherOptions),
    ):
        definitions[section] = model_schema(model, section, definitions)
        properties[section] = {"$ref": f"#/$defs/{section}", "default": {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "deepclust experiment",
        "type": "object",
        "additionalProperties": False,
        "required": [*(section for section, _, _ in KINDS.values()), "runs"],
        "properties": properties,
        "$defs": definitions,
    }


def main() -> int:
    """Run `deepclust generate`."""
    parser = argparse.ArgumentParser("deepclust generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    check = parser.parse_args().check
    schema = config_schema()
    files = {
        SCHEMA: json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        REFERENCE: reference_page(schema),
        PAGE: page_with_table(),
        NETWORKS: network_names(),
        **{CLONE / "envs" / name: text for name, text in environment_files().items()},
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(CLONE)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return int(check and bool(stale))
