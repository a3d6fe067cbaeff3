"""Pretraining as a job of its own, on one or several nodes, submitted and watched through submitit.

The command that submits is the driver. It does not train: it waits, shows the output of the job, and takes the result.
A record to find the job again is kept beside the training's state. So a driver that was killed and is started again
attaches to its job instead of submitting a second one. The job survives preemption and the end of its time: training
saves its state and the job goes back into the queue.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepclust.core.errors import DeepclustError
from deepclust.core.files import json_digest, read_json, write_json
from deepclust.pretraining.launch.job_task import TrainingTask
from deepclust.pretraining.launch.launcher_options import LauncherOptions

FOLDER = ".state-submitit"  # beside the backbone
POLL = 5.0  # seconds between two looks at the job
CANCEL_PATIENCE = 90.0  # seconds that a cancelled job has to save its state
SIGNAL_SECONDS = 120  # seconds before its time limit at which the job is told to save its state
GPU_REQUESTS = frozenset({"gpus", "gpus-per-node", "gpus-per-task"})  # options of sbatch, beside gres
# Arguments of the driver that have no meaning, or another one, for the processes that train.
DRIVERS_OWN = ("minutes", "memory_mb", "threads", "processes", "keep_state", "launcher")


class Submission:
    """Job that trains one backbone."""

    def __init__(self, options: LauncherOptions, model_json: Path, command: Sequence[str]) -> None:
        """Choose the cluster and the name of the job.

        Args:
            options: options of the launcher.
            model_json: file that the training will write.
            command: command that one process of the training runs, as words.

        Raises:
            DeepclustError: submitit, or the cluster that is asked for, is not there.
        """
        self.options = options
        self.folder = model_json.absolute().parent / FOLDER
        self.record = self.folder / "job.json"
        self.command = list(command)
        self.key = json_digest(self.command)[:16]
        self.name = f"deepclust-{model_json.parent.name}-{json_digest(str(model_json.absolute()))[:8]}"
        self.cluster = options.cluster or ("slurm" if shutil.which("sbatch") else "local")
        if self.cluster == "slurm" and not shutil.which("sbatch"):
            raise DeepclustError("launcher.cluster is slurm, but there is no sbatch on the PATH: start on a login node")
        if self.cluster != "slurm" and options.nodes > 1:
            raise DeepclustError(f"launcher.nodes is {options.nodes}, which needs Slurm: there is one machine here")
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise DeepclustError("launcher.method is submitit, which is not installed: pip install submitit") from error

    def run(self, listen: Callable[[Callable[[int], None]], None]) -> None:
        """Submit, or attach to the job that an earlier driver submitted, and wait for its end.

        Args:
            listen: called with the function that a termination signal is to call; the job is then cancelled.

        Raises:
            DeepclustError: the job cannot be submitted, it failed, or it was cancelled.
        """
        job = self._attached() or self._submitted()
        stops: list[int] = []
        listen(stops.append)
        if self.cluster == "debug":
            os.environ["SUBMITIT_DEBUG_JOB_ID"] = job.job_id  # this process is the job
            if (error := job.exception()) is not None:
                raise DeepclustError(f"the training failed, see above: {error}")
            return
        paths, shown = job.paths, 0
        while True:
            running = self._in_queue(job.job_id)
            shown = _show(paths.stdout, shown)
            if stops:
                self._cancel(job.job_id)
                raise DeepclustError(f"stopped by signal {stops[0]}: {self._what(job.job_id)} is cancelled")
            if not running:
                break
            time.sleep(POLL)
        self._judge(job)

    def remove(self) -> None:
        """Remove the record of the job, and submitit's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _attached(self) -> Any:
        """Return the job that runs already, if any."""
        known = read_json(self.record) if self.record.exists() else {}
        number = known.get("id")
        if number is None or not self._in_queue(number):
            number = self._found_by_name()
        elif known.get("key") != self.key:
            raise DeepclustError(
                f"{self._what(number)} still trains this backbone under other options or code: wait for it, or end it "
                f"({'scancel' if self.cluster == 'slurm' else 'kill'} {number})"
            )
        if number is None:
            return None
        import submitit

        print(f"attached to {self._what(number)}, which is there already", flush=True)
        kind = submitit.SlurmJob if self.cluster == "slurm" else submitit.LocalJob
        return kind(folder=self.folder, job_id=number)

    def _found_by_name(self) -> str | None:
        """Return a job whose driver was killed before it could record it, or None."""
        if self.cluster != "slurm":
            return None
        found = _ask("squeue", "--noheader", "--me", f"--name={self.name}-{self.key}", "--format=%A")
        return found.split()[0] if found and found.split() else None

    def _submitted(self) -> Any:
        import submitit

        options = self.options
        # The job unpickles the task by name, so it has to find the library.
        library = str(Path(__file__).resolve().parents[3])
        os.environ["PYTHONPATH"] = os.pathsep.join([library, *filter(None, [os.environ.get("PYTHONPATH")])])
        timeouts = options.time_slices - 1
        try:
            executor = submitit.AutoExecutor(
                self.folder, cluster=self.cluster, slurm_max_num_timeout=timeouts, local_max_num_timeout=timeouts
            )
            executor.update_parameters(
                name=f"{self.name}-{self.key}",
                nodes=options.nodes,
                tasks_per_node=options.processes_on_a_node,
                gpus_per_node=_gpus_per_node(options),
                cpus_per_task=options.cpus_per_process,
                mem_gb=options.memory_gb,
                timeout_min=options.minutes,
                stderr_to_stdout=True,
                slurm_signal_delay_s=min(SIGNAL_SECONDS, 12 * options.minutes),
                slurm_account=options.account,
                slurm_partition=options.partition,
                slurm_constraint=options.constraint,
                slurm_additional_parameters=options.sbatch or None,
            )
            job = executor.submit(TrainingTask(self.command))
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            refusal = re.findall(r"error: (.*)", str(error)) or [str(error)]
            raise DeepclustError(f"the job is refused (launcher): {'; '.join(refusal)}") from error
        write_json(self.record, {"id": job.job_id, "key": self.key, "cluster": self.cluster})
        print(f"submitted {self._what(job.job_id)}; its output is in {self.folder}", flush=True)
        return job.task(0) if job.num_tasks > 1 else job

    def _what(self, number: str) -> str:
        return f"Slurm job {number}" if self.cluster == "slurm" else f"job {number}"

    def _in_queue(self, number: str) -> bool:
        """Return whether a job waits or runs; also true if that cannot be known at the moment."""
        if self.cluster == "slurm":
            found = _ask("squeue", "--noheader", f"--jobs={number}", "--format=%T")
            return found is None or bool(found.strip())
        return number.isdecimal() and _is_alive(int(number), self.folder)

    def _cancel(self, number: str) -> None:
        if self.cluster == "slurm":
            _ask("scancel", number)
        elif number.isdecimal():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGTERM)
        deadline = time.monotonic() + CANCEL_PATIENCE
        while self._in_queue(number) and time.monotonic() < deadline:
            time.sleep(1)
        if self.cluster != "slurm" and self._in_queue(number):  # Slurm does that itself
            _kill(int(number))

    def _judge(self, job: Any) -> None:
        """Check that the job trained to the end.

        Raises:
            DeepclustError: the job ended before.
        """
        if job.paths.result_pickle.exists() and job.exception() is None:
            return
        outputs = sorted(self.folder.glob(f"{job.job_id}_*_log.out"), key=lambda path: path.stat().st_mtime)
        said = [line for path in outputs for line in re.findall(r"^error: (.*)", path.read_text(), re.MULTILINE)]
        why = said[-1] if said else f"it ended before its time, see {self.folder}; run again to continue"
        raise DeepclustError(f"{self._what(job.job_id)}: {why}")


def task_arguments(argv: Sequence[str], options: LauncherOptions) -> list[str]:
    """Return the arguments of a process that trains, from those of the driver."""
    words: list[str] = []
    skipped = False
    for word in argv:
        if word.startswith("--"):
            skipped = re.split(r"[=.]", word[2:])[0] in DRIVERS_OWN
        if not skipped:
            words.append(word)
    return [*words, "--keep_state", "true", "--threads", str(options.cpus_per_process * options.processes_on_a_node)]


def _gpus_per_node(options: LauncherOptions) -> int | None:
    """Return the GPUs to ask for, or None if `sbatch` asks for them: Slurm refuses a job that asks in two ways."""
    told_otherwise = {name.replace("_", "-") for name in options.sbatch} & GPU_REQUESTS
    return None if told_otherwise or "gpu" in options.sbatch.get("gres", "") else options.gpus_per_node or None


def _ask(*command: str) -> str | None:
    """Return the answer of a Slurm command; empty for a job that it does not know, None if it cannot answer now."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 or "Invalid job id" in done.stderr:
        return done.stdout
    print(f"warning: {' '.join(command)}: {done.stderr.strip()}", file=sys.stderr, flush=True)
    return None


def _is_alive(number: int, folder: Path) -> bool:
    """Return whether a process of this machine runs a job from `folder`; numbers of processes are used again."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(number, os.WNOHANG)  # a child that ended counts until it is waited for
    process, deadline = Path(f"/proc/{number}"), time.monotonic() + 5
    try:
        # A process that is just being started has no words yet. One that ended and is not waited for has none any more.
        while not (words := (process / "cmdline").read_text()) and time.monotonic() < deadline:
            if "\nState:\tZ" in (process / "status").read_text():
                break
            time.sleep(0.01)
    except OSError:
        return False
    return str(folder) in words


def _kill(number: int) -> None:
    """Kill a process of this machine, then those that it started, so that it cannot replace them."""
    with contextlib.suppress(OSError):
        os.kill(number, signal.SIGSTOP)  # from now on it starts no new ones
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        os.kill(number, signal.SIGKILL)
        for child in children:
            _kill(int(child))


def _show(log: Path, start: int) -> int:
    """Print the lines of a job's log from position `start`, except submitit's, and return the new position."""
    if not log.exists():
        return start
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        for line in file:
            if not line.startswith(("submitit ", "error: ")):
                print(line, end="", flush=True)
        return file.tell()
