"""`import deepclust` is quick, names what it has, and its examples run."""

import doctest
import inspect
import subprocess
import sys

import pytest

import deepclust
from deepclust.core.fingerprint import SCRIPTS


def test_importing_loads_nothing_large():
    code = "import deepclust, sys; assert 'cluster' in dir(deepclust); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert "deepclust" in loaded.stdout.split()
    assert not {"torch", "numpy", "sklearn", "pydantic", "faiss"} & set(loaded.stdout.split())


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="clusters"):
        deepclust.clusters  # noqa: B018


@pytest.mark.parametrize("name", deepclust.__all__)
def test_examples_run(name):
    public = getattr(deepclust, name)
    tests = doctest.DocTestFinder(recurse=False).find(public, name, globs=vars(inspect.getmodule(public)).copy())
    examples = [example for test in tests for example in test.examples]
    assert examples or name in {"ClusterResult", "FittedHead"}  # what functions return
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0
