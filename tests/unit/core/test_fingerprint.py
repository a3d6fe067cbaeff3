import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deepclust.core.fingerprint import HARMLESS, SCRIPTS, canonical, code_params, reachable_modules

SNIPPET = '''
"""Docstring."""
import os  # comment

class A(Base, key=1):
    """Docstring."""
    x: int = 3
    """Attribute docstring."""

    @property
    async def f(self, a, /, b: str = "s", *args, c=1.5, **kw) -> list[int] | None:
        """Docstring."""
        try:
            with open(f"{a!r:>{b}} {{}}") as g, h:
                return [*args, -1, 1_000, 0x10, 1e-3, 2j, b"x", ..., None, True]
        except* (ValueError, OSError) as error:
            raise error from None
        match a:
            case {"k": [1, *rest], **others} if rest:
                del a[1:2, ::3]
            case A(x=1) | _:
                lambda q: (yield q)
'''
# Written down on Python 3.11: every supported version must get the same.
SNIPPET_HASH = "1b35421ecf3d0a34"


def _hash(source: str) -> str:
    import hashlib

    return hashlib.sha256(canonical(ast.parse(source)).encode()).hexdigest()[:16]


def test_equal_on_every_python_version():
    assert _hash(SNIPPET) == SNIPPET_HASH


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_equal_on_other_interpreters_here(version):
    python = shutil.which(f"python{version}")
    program = (
        f"import sys, ast, hashlib; sys.path.insert(0, {str(SCRIPTS)!r}); "
        "from deepclust.core.fingerprint import canonical; "
        "print(hashlib.sha256(canonical(ast.parse(sys.stdin.read())).encode()).hexdigest()[:16])"
    )
    if python is None:
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, "-c", program], input=SNIPPET, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Python {version} does not run here")
    assert done.stdout.strip() == SNIPPET_HASH


@pytest.mark.parametrize(
    "other",
    [
        "def f(a,b = 1):\n\n    # comment\n    return (a + b)\n",
        'def f(a, b=1):\n    """A docstring."""\n    return a + b\n',
        '"""Module docstring."""\ndef f(a, b=0x1): return a + b\n',
    ],
)
def test_formatting_comments_and_docstrings_do_not_count(other):
    assert _hash("def f(a, b=1):\n    return a + b\n") == _hash(other)


@pytest.mark.parametrize(
    "other",
    [
        "def f(a, b=2):\n    return a + b\n",
        "def f(a, b=1.0):\n    return a + b\n",
        "def f(a, b=True):\n    return a + b\n",
        "def f(a, b='1'):\n    return a + b\n",
        "def f(b, a=1):\n    return a + b\n",
        "def f(a, b=1):\n    return b + a\n",
        "def f(a, b=1):\n    return a - b\n",
        "async def f(a, b=1):\n    return a + b\n",
        "def f(a, *, b=1):\n    return a + b\n",
        "def f(a, b=1):\n    a + b\n",
    ],
)
def test_meaning_counts(other):
    assert _hash("def f(a, b=1):\n    return a + b\n") != _hash(other)


SCRIPT_NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_params_are_sorted_and_cover_what_the_script_imports(script):
    params = code_params(script)
    assert params == sorted(params)
    assert any(item.startswith(f"{script}.py:") for item in params)
    assert "deepclust.core.command" in reachable_modules(script)
    assert not any(item.split(":")[0] in HARMLESS for item in params)


def test_a_module_loaded_by_name_is_added_with_all_it_reaches():
    without, with_head = reachable_modules("cluster"), reachable_modules("cluster", ["deepclust.heads.kmeans"])
    assert "deepclust.heads.kmeans" in with_head - without


def test_harmless_modules_exist():
    for module in HARMLESS:
        assert SCRIPTS.joinpath(*module.split(".")).with_suffix(".py").is_file()


def test_init_files_are_empty():
    """But that of the whole, which only says where its functions are, and is in no fingerprint."""
    package = Path(SCRIPTS, "deepclust")
    for path in {*package.rglob("__init__.py")} - {package / "__init__.py"}:
        assert path.read_bytes() == b"", path


def test_planning_imports_no_torch():
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); "
        "import deepclust.planning.parameters, deepclust.planning.terminal, deepclust.core.fingerprint; "
        "heavy = {'torch', 'timm', 'faiss', 'sklearn', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
