"""Names lead to their code: a package of methods holds methods alone, and a class is the only one of its name."""

import ast
from collections import defaultdict

import pytest

from deepclust.core.fingerprint import PACKAGE, SCRIPTS
from deepclust.planning.schema import Schema

LIBRARY = SCRIPTS / PACKAGE
METHODS = {"data/loaders": "loader", "heads": "head", "pretraining": "backbone"}
EVERY_METHOD_HAS = {"Options"}


@pytest.mark.parametrize("package", METHODS)
def test_a_package_of_methods_holds_methods_alone(package):
    """Others than those that an experiment can name lie in a folder below."""
    kind = METHODS[package]
    schema = Schema()
    named = {schema.module(kind, name) for name in schema.definitions[kind]["discriminator"]["mapping"]}
    module = f"{PACKAGE}.{package.replace('/', '.')}"
    files = {f"{module}.{file.stem}" for file in (LIBRARY / package).glob("*.py") if file.stem != "__init__"}
    assert files == {name for name in named if name.startswith(f"{module}.")}
    assert files


def test_a_class_is_the_only_one_of_its_name():
    places = defaultdict(list)
    for file in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(file.relative_to(LIBRARY)))
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in EVERY_METHOD_HAS}
    assert not twice
    assert len(places) > 100
