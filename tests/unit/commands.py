"""Commands of the workflow as a shell runs them, but without the seconds in which they import what others made.

One process of the test session imports that and forks another for every command, which runs the script from its first
line to its exit and finds nothing of the project imported.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from deepclust.core.fingerprint import SCRIPTS

SERVER = """
import json, os, runpy, sys, traceback
import numpy, PIL.Image, pydantic_settings, safetensors.torch, torch
import matplotlib.backends.backend_agg, matplotlib.figure
import scipy.optimize, scipy.sparse.linalg, scipy.special, sklearn.linear_model, sklearn.metrics

def work(request):
    try:
        os.chdir(request["cwd"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = request["argv"]
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(70)  # a command ends its process itself

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run_command(name: str, *words: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
    """Run a command and return its exit status and what it said.

    Args:
        name: of the command, e.g. `cluster`.
        words: its flags and their values.
        cwd: folder to run it in; by default the present one.
        variables: of the environment, beside those of this process.
    """
    argv = [str(SCRIPTS / f"{name}.py"), *map(str, words)]
    with tempfile.TemporaryDirectory() as folder:
        said = {stream: f"{folder}/{stream}" for stream in ("stdout", "stderr")}
        request = {"argv": argv, "cwd": str(cwd or Path.cwd()), "environment": {**os.environ, **variables}, **said}
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = (Path(path).read_text(encoding="utf-8") for path in said.values())
        return subprocess.CompletedProcess(argv, status, *texts)


@functools.cache
def _server() -> subprocess.Popen:
    """Ends when this process does, with its standard input."""
    return subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=SCRIPTS
    )
