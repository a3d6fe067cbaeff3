"""Several processes that train together, as a launcher starts them.

One process imports everything and forks the others, so that they start at once.
"""

import contextlib
import json
import random
import socket
from pathlib import Path

from pretrain_processes import start_server

SERVER = """
import importlib, json, os, sys, traceback
import pretrain
from deepclust.core.command import run_job
from deepclust.models.torchvision_ops import declare_missing_operators
declare_missing_operators()
import timm.models.resnet
import torch.distributed
import deepclust.pretraining.engine.pretraining

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
        self.server = start_server(SERVER, PYTHONPATH=str(Path(__file__).parent))

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
