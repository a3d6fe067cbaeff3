"""Task of a submitted job: it trains as one process of a team and saves the state when asked to stop."""

import contextlib
import os
import signal
import subprocess
import time
from typing import Any

PATIENCE = 600  # seconds that a task waits for its own end after its training was ended


class TrainingTask:
    """Command of one process of a team; submitit calls it in every task, and `checkpoint` when time is up."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._terminated = False

    def __call__(self) -> None:
        """Train to the end.

        Raises:
            RuntimeError: the process ended with an error, which it has reported.
        """
        from submitit.helpers import TorchDistributedEnvironment

        team = TorchDistributedEnvironment()
        names = ("rank", "world_size", "local_rank", "local_world_size", "master_addr", "master_port")
        variables = {name.upper(): str(getattr(team, name)) for name in names}
        self._process = subprocess.Popen(self.command, env={**os.environ, **variables})
        signal.signal(signal.SIGTERM, self._terminate)
        while (code := self._process.poll()) is None:
            time.sleep(0.2)
        if code and self._terminated and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            # Slurm ends or requeues the job in a moment. A result now would be taken for that of the requeued job.
            time.sleep(PATIENCE)
        if code and team.rank == 0:
            raise RuntimeError(f"{' '.join(self.command[:2])} ended with status {code}")

    def checkpoint(self) -> Any:
        """Save the state; submitit calls this in the first task when the time is up or the job is preempted."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
            with contextlib.suppress(ChildProcessError):  # it had ended
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # `poll` below us may hold the lock
        return DelayedSubmission(TrainingTask(self.command))

    def _terminate(self, number: int, _frame: Any) -> None:
        """Pass a signal on to the training, because on this machine, unlike under Slurm, only the task gets it."""
        self._terminated = True
        if self._process is not None:
            self._process.send_signal(number)
