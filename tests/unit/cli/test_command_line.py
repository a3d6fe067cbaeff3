"""The command `deepclust`: what it lists, what it runs, with which library."""

import subprocess
import sys
from pathlib import Path

import pytest

from deepclust.core.fingerprint import SCRIPTS, commands

ROOT = SCRIPTS.parents[1]


def run(*words, cwd=ROOT):
    command = [sys.executable, "-m", "deepclust", *words]
    environment = {"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def test_help_lists_every_command_and_loads_little(tmp_path):
    done = run("--help", cwd=tmp_path)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed >= {"plan", "accept", "generate", "predict", *commands()}
    assert {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")} == set(commands())
    code = "import sys; from deepclust.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True).stderr.split()
    assert "deepclust.cli.main" in loaded
    assert not {"torch", "numpy", "pydantic", "snakemake"} & set(loaded)


@pytest.mark.parametrize(
    ("words", "flag"), [(["plan"], "--images-per-second"), (["accept"], "--why"), (["predict"], "--output")]
)
def test_help_of_a_command(words, flag):
    done = run(*words, "--help")
    assert done.returncode == 0 and flag in done.stdout, done.stderr


def test_help_of_a_rules_command_knows_the_options_of_a_method():
    plain, of_head = run("cluster", "--help"), run("cluster", "--method", "temi", "--help")
    assert plain.returncode == of_head.returncode == 0, plain.stderr + of_head.stderr
    assert "--output.clusters" in plain.stdout and "--beta" not in plain.stdout
    assert "--beta" in of_head.stdout


def test_a_rules_command_does_its_work(tmp_path):
    files = [f"--output.{name}=made/model.{end}" for name, end in (("model", "json"), ("weights", "safetensors"))]
    options = ["--method", "pixels", "--image_size", "8", "--provenance", "made/model.provenance.json"]
    done = run("pixels", *options, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "model.json").exists() and (tmp_path / "made" / "model.provenance.json").exists()


@pytest.mark.parametrize(("name", "hint"), [("clutser", "did you mean 'cluster'?"), ("xyzzy", "known: plan, accept")])
def test_an_unknown_command_is_one_line(name, hint):
    done = run(name)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and name in line and hint in line


def test_a_copy_without_a_clone_says_so(tmp_path):
    """As an ordinary install has it: the library alone."""
    copy = tmp_path / "site-packages" / "deepclust"
    for name in ("__init__.py", "__main__.py", "core", "cli"):
        source, target = SCRIPTS / "deepclust" / name, copy / name
        for path in [source] if source.is_file() else sorted(source.glob("*.py")):
            made = target if source.is_file() else target / path.name
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "deepclust", "plan"]
    environment = {"PYTHONPATH": str(copy.parent)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "there is no Snakefile here" in line


def test_the_clone_one_stands_in_is_planned_with_its_own_library(tmp_path):
    library = tmp_path / "workflow" / "scripts" / "deepclust"
    (library / "cli").mkdir(parents=True)
    (library / "__init__.py").touch()
    (library / "__main__.py").write_text("import sys; print('library of', *sys.argv[1:])")
    (tmp_path / "Snakefile").touch()
    assert run("plan", "-n", cwd=tmp_path).stdout == "library of plan -n\n"
    named = run("accept", "--why", "x", "--snakefile", str(tmp_path / "Snakefile"), cwd=Path("/"))
    assert named.stdout.startswith("library of accept --why x")
