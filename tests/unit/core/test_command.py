import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from deepclust.core.command import JobArguments, parse_arguments
from deepclust.core.errors import DeepclustError
from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.options import Options


class Crop(Options):
    scale: tuple[float, float] = (0.2, 1.0)
    flip: bool = True


class Arguments(JobArguments):
    images: list[str]
    epochs: int = 3
    start: str | None = None
    crop: Crop = Crop()


def test_arguments_from_flags():
    words = ["--images", "a b", "c", "--epochs", "5", "--crop.scale", "[0.1, 0.5]", "--crop.flip", "false"]
    parsed = parse_arguments("demo", Arguments, words)
    assert parsed.images == ["a b", "c"]
    assert (parsed.epochs, parsed.start, parsed.crop) == (5, None, Crop(scale=(0.1, 0.5), flip=False))


def test_null_is_a_word_like_any_other():
    parsed = parse_arguments("demo", Arguments, ["--images", '["null", "true"]', "--start", "null"])
    assert (parsed.images, parsed.start) == (["null", "true"], "null")


def test_a_file_stands_for_its_lines(tmp_path):
    (tmp_path / "list.txt").write_text("x y\nz\n")
    assert parse_arguments("demo", Arguments, ["--images", f"@{tmp_path}/list.txt", "w"]).images == ["x y", "z", "w"]
    with pytest.raises(DeepclustError, match=r"none\.txt"):
        parse_arguments("demo", Arguments, ["--images", "@none.txt"])


def test_arguments_ignore_the_environment(monkeypatch):
    monkeypatch.setenv("epochs", "7")
    assert parse_arguments("demo", Arguments, ["--images", "a"]).epochs == 3


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "images"),
        (["--images", "a", "--epochs", "many"], "epochs"),
        (["--images", "a", "--epoch_s", "1"], "epoch_s"),
    ],
)
def test_bad_arguments_are_one_line(words, named):
    with pytest.raises(DeepclustError, match=named) as error:
        parse_arguments("demo", Arguments, words)
    assert "\n" not in str(error.value)


@pytest.fixture
def library(tmp_path):
    """A copy of the scripts folder with a command of its own."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "scripts" / "demo.py").write_text(
        textwrap.dedent("""
            from pathlib import Path
            from deepclust.core.command import Files, Job, JobArguments, run_job

            class Output(Files):
                text: Path

            class Arguments(JobArguments):
                output: Output
                wait_for: Path | None = None
                fail: bool = False
                load: str | None = None
                allocate: str | None = None

            def main(arguments, job):
                import importlib, time
                from deepclust.core.errors import DeepclustError
                from deepclust.core.files import write_text
                if arguments.load:
                    importlib.import_module(arguments.load)
                with job.progress.task("counting", 2, "things") as task:
                    task.advance()
                    while arguments.wait_for and not arguments.wait_for.exists():
                        time.sleep(0.05)
                if arguments.fail:
                    raise DeepclustError("this is wrong: do that")
                if arguments.allocate == "numpy":
                    import numpy
                    numpy.empty(2**50)
                if arguments.allocate == "torch":
                    import torch
                    torch.empty(2**50)
                job.when_done.append(lambda: write_text(arguments.output.text.with_name("state_removed"), ""))
                write_text(arguments.output.text, "done")

            if __name__ == "__main__":
                run_job("demo", Arguments, main)
        """)
    )
    return tmp_path


def start(library, *words):
    command = [sys.executable, str(library / "scripts" / "demo.py"), "--output.text", str(library / "out.txt"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=library)


def digest(library):
    path = f"import sys; sys.path.insert(0, {str(library / 'scripts')!r}); "
    program = f"{path}from deepclust.core.fingerprint import code_digest; print(code_digest('demo'))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_result_and_provenance(library):
    job = start(library, "--provenance", str(library / "p.json"), "--code", digest(library))
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    assert (library / "out.txt").read_text() == "done"
    record = json.loads((library / "p.json").read_text())
    assert record["rule"] == "demo"
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 0
    assert record["outputs"]["text"]["sha256"] == hashlib.sha256(b"done").hexdigest()


def test_an_error_is_one_line_and_left_for_the_terminal(library):
    job = start(library, "--fail", "true", "--progress", str(library / "demo.progress"))
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1
    assert errors.strip() == "error: this is wrong: do that"
    assert json.loads((library / "demo.progress").read_text())["error"] == "this is wrong: do that"
    assert not (library / "out.txt").exists()


@pytest.mark.parametrize("library_name", ["numpy", "torch"])
def test_no_memory_left_is_one_line(library, library_name):
    job = start(library, "--allocate", library_name)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1
    assert errors.strip() == "error: out of memory: give the job more, or use smaller batches"


def test_code_that_changed_before_the_start_is_refused(library):
    planned = digest(library)
    with (library / "scripts" / "demo.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    job = start(library, "--code", planned)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1 and "changed after" in errors
    assert not (library / "out.txt").exists()


@pytest.mark.parametrize(("text", "accepted"), [("\nCHANGED = True\n", False), ("\n# a comment\n", True)])
def test_code_that_changes_while_the_job_runs(library, text, accepted):
    """The module that changed is an imported one."""
    job = start(
        library, "--code", digest(library), "--wait_for", str(library / "go"), "--progress", str(library / "d.progress")
    )
    while not (library / "d.progress").exists():
        time.sleep(0.05)
        assert job.poll() is None
    with (library / "scripts" / "deepclust" / "core" / "files.py").open("a") as file:
        file.write(text)
    (library / "go").touch()
    job.communicate(timeout=60)
    assert (job.returncode == 0) == accepted
    assert (library / "out.txt").exists() == accepted
    # A result that is refused keeps what it can be computed from again.
    assert (library / "state_removed").exists() == accepted


def test_a_module_outside_the_fingerprint_is_refused(library):
    """Code loaded by a computed name would change without anybody noticing."""
    job = start(library, "--load", "deepclust.core.seeding")
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 1 and "deepclust.core.seeding" in errors


def test_killed_leaves_no_result(library):
    job = start(library, "--wait_for", str(library / "never"), "--progress", str(library / "d.progress"))
    while not (library / "d.progress").exists():
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=60)
    assert not (library / "out.txt").exists()
