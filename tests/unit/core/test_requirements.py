"""What is declared as a dependency is what the code imports."""

import ast
import re
import sys
import tomllib

import pytest

from deepclust.core.fingerprint import HARMLESS, SCRIPTS, reachable_modules

ROOT = SCRIPTS.parents[1]
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "faiss": "faiss-cpu", "umap": "umap-learn"}
NAMES["snakemake_interface_logger_plugins"] = "snakemake"  # comes with it  # others are alike
FONTS = {"manimgx-fonts", "noto-cjk-sans-otc"}  # are read, not imported
# They import torch where a device is asked for, which only code does that imports it itself.
DEVICE = {"deepclust.core.device", "deepclust.core.gpu_use"}


def imports(path):
    """Requirements that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "deepclust"}
    return {NAMES.get(name, name.replace("_", "-")).lower() for name in found}


def file_of(module):
    path = SCRIPTS.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_the_project_declares_what_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *(x for extra in project["optional-dependencies"].values() for x in extra)]
    declared = {re.match(r"[\w.-]+", line)[0].lower() for line in listed}
    imported = set().union(*(imports(path) for path in SCRIPTS.rglob("*.py")))
    assert imported <= declared
    assert declared - imported == FONTS


def environments():
    """Of every rule with an environment: its name, its script, the environment."""
    for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", file.read_text(), re.MULTILINE):
            if (environment := re.search(r"envs/(\w+)\.yaml", body)) and (script := re.search(r'job\("(\w+)"', body)):
                yield rule, script[1], environment[1]


METHODS = {"prepare": "data/loaders", "pretrain": "pretraining", "cluster": "heads"}  # methods that are loaded by name


def test_rules_have_environments():
    assert {"prepare", "pretrain", "cluster", "report_page"} <= {script for _, script, _ in environments()}


@pytest.mark.parametrize(("rule", "script", "environment"), list(environments()))
def test_environments_hold_what_their_rules_import(rule, script, environment):
    folder = SCRIPTS / "deepclust" / METHODS[rule] if rule in METHODS else None
    methods = (
        [f"deepclust.{METHODS[rule].replace('/', '.')}.{path.stem}" for path in folder.glob("*.py")] if folder else []
    )
    modules = reachable_modules(script, methods)
    files = [SCRIPTS / f"{script}.py", *map(file_of, modules - DEVICE)]
    # Records and progress bars are not part of the fingerprint: of them, those that these files name.
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    files += [file_of(module) for module in HARMLESS - DEVICE if f"{module} import" in text]
    needed = set().union(*map(imports, files))
    lines = (ROOT / "envs" / f"{environment}.yaml").read_text(encoding="utf-8")
    held = {name.lower() for name in re.findall(r"^      - ([\w.-]+?)==", lines, re.MULTILINE)}
    assert needed <= held, f"{environment} lacks {sorted(needed - held)}"
