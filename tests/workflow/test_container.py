"""Jobs in the container. No image is built here: a program that runs the command outside stands in for Apptainer."""

import os
import re
import stat

from small_experiment import ROOT, copy_project, deepclust, environment, snakemake

APPTAINER = """#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.3.4"; exit; fi
echo "$@" >> {folder}/apptainer.txt
while [ "$1" != sh ] && [ "$1" != bash ]; do shift; done
exec "$@"
"""


def test_jobs_run_in_the_image(tmp_path, monkeypatch):
    folder = tmp_path / "Käthe's clone"  # of which only `envs/deepclust.sif` is said, beside paths in quotes
    folder.mkdir()
    copy_project(folder)
    (folder / "envs" / "deepclust.sif").write_bytes(b"")
    (tmp_path / "bin").mkdir()
    for name in ("apptainer", "singularity"):
        program = tmp_path / "bin" / name
        program.write_text(APPTAINER.format(folder=tmp_path))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{environment()['PATH']}")
    target = "results/backbones/pixels/model.json"
    words = ("--cores", "1", "--sdm", "apptainer", "--apptainer-args=--nv")
    done = snakemake(folder, *words, "--", target)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / target).exists()
    (call,) = (tmp_path / "apptainer.txt").read_text().splitlines()
    assert "--nv" in call and " envs/deepclust.sif " in call and "workflow/scripts/pixels.py" in call

    plan, accept = "plan", ["accept", "--why", "renamed"]
    assert tool(folder, plan, *words, "--", target).startswith("0 jobs would run\n")
    assert tool(folder, plan, "--use-apptainer", "--", target).startswith("0 jobs would run\n")
    assert "environment changed" in tool(folder, plan, target)
    with (folder / "workflow" / "scripts" / "pixels.py").open("a") as script:
        script.write("\nRENAMED = True\n")
    assert "accepted the results of 0 jobs" in tool(folder, *accept, target)
    assert "accepted the results of 1 jobs" in tool(folder, *accept, *words, "--", target)
    assert tool(folder, plan, *words, "--", target).startswith("0 jobs would run\n")


def test_an_image_that_apptainer_cannot_be_told(tmp_path):
    clone, folder = tmp_path / "a clone", tmp_path / "folder"
    clone.mkdir(), folder.mkdir()
    copy_project(clone)
    done = snakemake(folder, "-n", "--snakefile", str(clone / "Snakefile"), "--sdm", "apptainer")
    assert done.returncode == 1
    assert "without --directory" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def tool(folder, *words):
    done = deepclust(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_image_holds_the_pins():
    text = (ROOT / "envs" / "deepclust.def").read_text()
    files = re.findall(r"^    (envs/\S+) (/opt/\S+)$", text, re.MULTILINE)
    assert [source for source, _ in files] == ["envs/requirements.txt", "envs/constraints.txt"]
    assert all((ROOT / source).is_file() for source, _ in files)
    (install,) = re.findall(r"^    pip install (.*)$", text, re.MULTILINE)
    assert f"-r {files[0][1]}" in install and f"-c {files[1][1]}" in install
