"""What `pip install .` puts into an environment: the library, every command, and the data files that they read."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from deepclust.core.fingerprint import SCRIPTS

ROOT = SCRIPTS.parents[1]
BUILT = ("pyproject.toml", "setup.py", "README.md", "LICENSE")

pytest.importorskip("setuptools", "77", reason="building needs setuptools")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What is built from, without what an earlier build left behind."""
    folder = tmp_path_factory.mktemp("clone")
    for name in BUILT:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(
        SCRIPTS, folder / "workflow" / "scripts", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    return folder


@pytest.fixture(scope="module")
def wheel(clone):
    """The wheel, built as pip does it, by the setuptools of this environment."""
    code = "from setuptools import build_meta; build_meta.build_wheel('wheels')"
    (clone / "wheels").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
    [path] = (clone / "wheels").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of a new environment that has the wheel, and the packages of this one, the project not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    zipfile.ZipFile(wheel).extractall(packages)
    return folder / "bin" / "python"


def run(python, folder, *words):
    environment = {"PATH": f"{python.parent}{os.pathsep}/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [str(python), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_everything_is_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    library = {path for path in SCRIPTS.joinpath("deepclust").rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(SCRIPTS)) for path in library if "__pycache__" not in path.parts}
    wanted |= {f"deepclust/scripts/{path.name}" for path in SCRIPTS.glob("*.py")}
    assert wanted - held == set()
    assert {name for name in held if name.endswith(".py")} <= wanted


def test_the_command_is_installed(wheel):
    [name] = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("entry_points.txt")]
    assert "deepclust = deepclust.cli.main:main" in zipfile.ZipFile(wheel).read(name).decode()


def test_the_library_and_the_commands_work(python, tmp_path):
    code = (
        "import deepclust, json; import numpy as np;"
        "x = np.repeat([[0., 1], [5, 5]], 9, axis=0);"
        "print(json.dumps([deepclust.__file__, deepclust.cluster(x, 2).labels_.tolist()]))"
    )
    done = run(python, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    where, labels = json.loads(done.stdout)
    assert Path(where).is_relative_to(python.parents[1])
    assert len(set(labels[:9])) == len(set(labels[9:])) == 1 and labels[0] != labels[-1]
    done = run(python, tmp_path, "-m", "deepclust", "pixels", "--output.model", "made/model.json",
               "--provenance", "made/model.provenance.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "made" / "model.provenance.json").read_text())
    assert any(item.startswith("pixels.py:") for item in record["code"])


def test_commands_of_the_installed_copy_are_known_by_the_code_that_a_clone_has(python):
    code = "from deepclust.core.fingerprint import code_params, commands; print(*[code_params(c) for c in commands()])"
    installed, here = (run(each, SCRIPTS if each != python else "/", "-c", code).stdout
                       for each in (python, Path(sys.executable)))  # fmt: skip
    assert installed == here and "cluster.py:" in here


def test_a_plan_needs_a_clone(python, tmp_path):
    done = run(python, tmp_path, "-m", "deepclust", "plan")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "there is no Snakefile here" in line


def test_an_editable_install_runs_the_clone(clone, python, tmp_path_factory):
    """`make demo` installs so: the library and the scripts stay where they are."""
    code = "from setuptools import build_meta; build_meta.build_editable('editable')"
    (clone / "editable").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
    [path] = (clone / "editable").glob("*.whl")
    folder = tmp_path_factory.mktemp("editable")
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    zipfile.ZipFile(path).extractall(packages)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "zz.pth").write_text("".join(f"{path}\n" for path in others))
    done = run(folder / "bin" / "python", "/", "-c", "import deepclust; print(deepclust.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(clone), done.stderr
    done = run(folder / "bin" / "python", "/", "-m", "deepclust", "cluster", "--help")
    assert done.returncode == 0 and "--output.clusters" in done.stdout, done.stderr
