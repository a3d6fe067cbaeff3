"""Several processes that train together, as a launcher starts them.

One process imports everything and forks the others, so that they start at once and can be killed often.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

from pretrain_processes import SCRIPTS

SERVER = """
import importlib, json, os, pkgutil, sys, traceback
import pretrain
import deepclust.pretraining
from deepclust.core.command import run_job
from deepclust.core.fingerprint import code_params
from deepclust.models.torchvision_ops import declare_missing_operators
declare_missing_operators()
import timm.models.resnet
import torch.distributed
import deepclust.pretraining.engine.pretraining

# Read and parsed once for all: the code of every method, without importing it.
names = [info.name for info in pkgutil.iter_modules(deepclust.pretraining.__path__) if not info.ispkg]
code_params("pretrain", [f"deepclust.pretraining.{name}" for name in names])

def work(request):
    if "argv" in request:
        run_job("pretrain", pretrain.Arguments, pretrain.main, method=("pretraining", "method"), argv=request["argv"])
    try:
        getattr(importlib.import_module(request["module"]), request["function"])(*request["arguments"])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)

for line in sys.stdin:
    request = json.loads(line)
    children = []
    for variables in request["processes"]:
        child = os.fork()
        if child == 0:
            file = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1), os.dup2(file, 2)
            os.environ.update(variables)
            work(request)
        children.append(child)
    print(json.dumps(children), flush=True)
    sys.stdin.readline()  # until they are waited for, their numbers are their own
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
"""


def free_port():
    """One below those that the system hands out itself, so that nobody gets it before the team takes it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class Teams:
    """Starts teams, one at a time."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=SCRIPTS,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, count, log, **request):
        """Numbers of the new processes; they do the work of a command (`argv`) or call a function of a module."""
        common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        alone = [{}]
        team = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        return self._ask({"log": str(log), "processes": team if count > 1 else alone, **request})

    def wait(self):
        """Their exit statuses; negative: the signal that ended one."""
        return self._ask("")

    def call(self, count, log, function, *arguments):
        """Call a function of a test's module in every process of a team."""
        self.start(count, log, module=function.__module__, function=function.__name__, arguments=arguments)
        assert self.wait() == [0] * count, log.read_text()

    def close(self):
        self.server.kill()
        self.server.wait()

    def _ask(self, question):
        self.server.stdin.write(json.dumps(question) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())
