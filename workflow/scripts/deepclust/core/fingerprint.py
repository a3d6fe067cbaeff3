"""Fingerprints of code: what a command does, not how it is formatted or when it was touched.

Snakemake watches a script by its modification time, and it does not watch imported modules. So each rule carries one
`module:hash` string for its script and for every library module that the script can reach. The hash is over the syntax
tree without comments, docstrings and positions, and is the same on every supported Python version.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError

SCRIPTS = Path(__file__).resolve().parents[2]
PACKAGE = "deepclust"
COPIED = "scripts"  # the folder of the package that has the commands where it is installed as a copy

# Modules that cannot change a result: progress bars, records of how a result came about, messages, how processes start.
# A change to them never reruns anything.
HARMLESS = frozenset(
    {
        "deepclust.cli.main",
        "deepclust.core.errors",
        "deepclust.pretraining.engine.event_log",
        "deepclust.core.gpu_use",
        "deepclust.core.progress",
        "deepclust.core.provenance",
        "deepclust.core.time_limit",
        "deepclust.pretraining.engine.training_log",
        "deepclust.pretraining.launch.job_task",
        "deepclust.pretraining.launch.launcher_options",
        "deepclust.pretraining.launch.submission",
        "deepclust.pretraining.launch.torchrun",
    }
)


# Files of the project that a module reads beside its code, below the package.
DATA_FILES = {
    "deepclust.reporting.published": ["reporting/published.csv"],
    "deepclust.reporting.page": ["reporting/page.html", "reporting/page.css"],
}


def command_path(name: str) -> Path:
    """Return the script of a command: beside the library in a clone, inside of it in an installed copy."""
    copied = SCRIPTS / PACKAGE / COPIED
    return (copied if copied.is_dir() else SCRIPTS) / f"{name}.py"


def commands() -> list[str]:
    """Return the names of all commands, sorted."""
    return sorted(path.stem for path in command_path("").parent.glob("*.py"))


def code_params(script: str, modules: Iterable[str] = ()) -> list[str]:
    """Return `module:hash` of all code that a script can reach, sorted.

    There is one for the script, for every library module it can reach and for every data file that these read.

    Args:
        script: name of the command, e.g. `pretrain` for `workflow/scripts/pretrain.py`.
        modules: modules that the script loads by name at run time, e.g. `deepclust.heads.kmeans`.
    """
    hashes = {f"{script}.py": _hash(command_path(script))}
    for module in _reachable(command_path(script), modules):
        hashes[module] = _hash(_module_path(module))
        for file in DATA_FILES.get(module, ()):
            hashes[file.replace("/", ".")] = hashlib.sha256((SCRIPTS / PACKAGE / file).read_bytes()).hexdigest()[:16]
    return sorted(f"{name}:{value}" for name, value in hashes.items())


def code_digest(script: str, modules: Iterable[str] = ()) -> str:
    """Return one digest over `code_params`, short enough for a command line."""
    return hashlib.sha256("\n".join(code_params(script, modules)).encode()).hexdigest()[:16]


def reachable_modules(script: str, modules: Iterable[str] = ()) -> set[str]:
    """Return the names of the library modules whose code is part of the fingerprint."""
    return set(_reachable(command_path(script), modules))


def _reachable(script: Path, modules: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    waiting = [*_imports(script), *modules]
    while waiting:
        module = waiting.pop()
        if module in seen or module in HARMLESS:
            continue
        seen.add(module)
        yield module
        waiting.extend(_imports(_module_path(module)))


def _module_path(module: str) -> Path:
    path = SCRIPTS.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(path: Path) -> list[str]:
    """Return the library modules named by any import statement of a file, also inside functions."""
    return _parse(*_version(path))[1]


def _hash(path: Path) -> str:
    return _parse(*_version(path))[0]


def _version(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DeepclustError(f"code file {path} is missing") from error
    return path, status.st_mtime_ns, status.st_size


@functools.cache
def _parse(path: Path, _mtime: int, _size: int) -> tuple[str, list[str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise DeepclustError(f"{path}, line {error.lineno}: {error.msg}") from error
    digest = hashlib.sha256(canonical(tree).encode()).hexdigest()[:16]
    return digest, sorted({module for node in _statements(tree) for module in _imported(node)})


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements, also those inside others; expressions, which are most nodes and import nothing, are left out."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for name in ("body", "orelse", "handlers", "finalbody", "cases"):
            waiting += getattr(node, name, ())


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        # `from package import name` may mean a module or something inside the package.
        candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in candidates:
        if name.split(".")[0] == PACKAGE and _module_path(name).is_file() and name != PACKAGE:
            yield name


def canonical(node: ast.AST) -> str:
    """Return a syntax tree as text, without anything that formatting, comments or docstrings can change.

    `ast.dump` differs between Python versions in the empty fields it prints; here empty fields never appear. Strings
    that stand alone as statements (docstrings of modules, classes, functions and attributes) are left out.
    """
    kind: Any = type(node)
    parts = []
    for name in _fields(kind):
        value = getattr(node, name, None)
        if value is not None and value != []:
            parts.append(f"{name}={_canonical_value(value)}")
    return f"{kind.__name__}({','.join(parts)})"


@functools.cache
def _fields(kind: Any) -> list[str]:
    """The fields of a kind of node that count, in the order of their names."""
    return sorted(set(kind._fields) - {"ctx", "kind", "type_comment", "type_ignores"})


def _canonical_value(value: object) -> str:
    if isinstance(value, ast.JoinedStr):
        return f"f-string:{_joined(value)!r}"
    if isinstance(value, ast.AST):
        return canonical(value)
    if isinstance(value, list):
        return "[" + ",".join(_canonical_value(item) for item in value if not _is_docstring(item)) + "]"
    return f"{type(value).__name__}:{value!r}"


def _joined(node: ast.JoinedStr) -> list[str]:
    """Return the parts of an f-string, with neighboring texts joined: Python versions cut them differently."""
    parts: list[str] = []
    literal = False
    for part in node.values:
        if isinstance(part, ast.Constant):
            text = str(part.value)
            if literal:
                parts[-1] += text
            elif text:
                parts.append(text)
            literal = literal or bool(text)
        else:
            parts.append(canonical(part))
            literal = False
    return parts


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
