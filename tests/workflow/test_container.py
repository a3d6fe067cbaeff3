"""Jobs in the container. No image is built here: a program that runs the command outside stands in for Apptainer."""

import os
import re
import stat
import subprocess
import sys

from small_experiment import ROOT, copy_project, environment, snakemake

APPTAINER = """#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.3.4"; exit; fi
echo "$@" >> {folder}/apptainer.txt
while [ "$1" != sh ] && [ "$1" != bash ]; do shift; done
exec "$@"
"""


def test_jobs_run_in_the_image(tmp_path, monkeypatch):
    copy_project(tmp_path)
    (tmp_path / "envs" / "deepclust.sif").write_bytes(b"")
    (tmp_path / "bin").mkdir()
    for name in ("apptainer", "singularity"):
        program = tmp_path / "bin" / name
        program.write_text(APPTAINER.format(folder=tmp_path))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{environment()['PATH']}")
    target = "results/backbones/pixels/model.json"
    words = ("--cores", "1", "--sdm", "apptainer", "--apptainer-args=--nv")
    done = snakemake(tmp_path, *words, "--", target)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / target).exists()
    (call,) = (tmp_path / "apptainer.txt").read_text().splitlines()
    assert "--nv" in call and f"{tmp_path}/envs/deepclust.sif" in call and "workflow/scripts/pixels.py" in call

    plan, accept = "tools/plan.py", ["tools/accept.py", "--why", "renamed"]
    assert tool(tmp_path, plan, *words, "--", target).startswith("0 jobs would run\n")
    assert tool(tmp_path, plan, "--use-apptainer", "--", target).startswith("0 jobs would run\n")
    assert "environment changed" in tool(tmp_path, plan, target)
    with (tmp_path / "workflow" / "scripts" / "pixels.py").open("a") as script:
        script.write("\nRENAMED = True\n")
    assert "accepted the results of 0 jobs" in tool(tmp_path, *accept, target)
    assert "accepted the results of 1 jobs" in tool(tmp_path, *accept, *words, "--", target)
    assert tool(tmp_path, plan, *words, "--", target).startswith("0 jobs would run\n")


def tool(folder, *words):
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_image_holds_the_pins():
    text = (ROOT / "envs" / "deepclust.def").read_text()
    files = re.findall(r"^    (envs/\S+) (/opt/\S+)$", text, re.MULTILINE)
    assert [source for source, _ in files] == ["envs/requirements.txt", "envs/constraints.txt"]
    assert all((ROOT / source).is_file() for source, _ in files)
    (install,) = re.findall(r"^    pip install (.*)$", text, re.MULTILINE)
    assert f"-r {files[0][1]}" in install and f"-c {files[1][1]}" in install
