"""Start of several processes of a command on this machine, with torchrun's agent."""

import logging
import os
import sys
import uuid
from collections.abc import Sequence

import torch.distributed  # noqa: F401  # the launcher needs it
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from deepclust.core.command import TERMINATING
from deepclust.core.errors import DeepclustError

PATIENCE = 600  # seconds that processes have to save their state before they are killed


def run(command: Sequence[str], count: int) -> None:
    """Run a Python command in `count` processes that know of each other, to its end.

    Signals are passed on. The process that meets an error reports it, so this one then ends silently.

    Raises:
        DeepclustError: a process was killed.
    """
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(PATIENCE))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        signals_to_handle=",".join(number.name for number in TERMINATING),
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise DeepclustError(
                f"process {rank} of {count} was ended by signal {-failure.exitcode}: run again to continue"
            ) from error
        os._exit(1)
    except SignalException:
        os._exit(1)
