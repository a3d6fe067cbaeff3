"""Options of the start of pretraining, which change no result and so rerun nothing."""

from typing import Literal

from pydantic import Field

from deepclust.core.options import Options


class LauncherOptions(Options):
    """Options of the place where the processes of a pretraining run."""

    method: Literal["here", "submitit"] = "here"
    """Place of the training. `here`: on the machine that runs the rule, one process per GPU. `submitit`: as a job of
    its own, on several nodes if wanted, which goes on after preemption and at the end of its time."""
    cluster: Literal["slurm", "local", "debug"] | None = None
    """Target of submitit: Slurm, processes of this machine, or one process for debugging. By default Slurm if it is
    there, else this machine."""
    nodes: int = Field(1, ge=1)
    """Number of nodes of the job."""
    gpus_per_node: int = Field(1, ge=0)
    """Number of GPUs on each node; 0 trains on CPUs. With `sbatch: {gres: …}` it is only the number of processes."""
    processes_per_node: int | None = Field(None, ge=1)
    """Number of processes on each node; by default one per GPU."""
    cpus_per_process: int = Field(8, ge=1)
    """Number of CPUs of each process."""
    memory_gb: float = Field(64, gt=0)
    """Memory on each node."""
    minutes: int = Field(720, ge=1)
    """Time limit of the job. Shortly before it, training saves its state and the job goes back into the queue."""
    time_slices: int = Field(20, ge=1)
    """Number of time limits that a training may use up. If it has not ended by the last of them, it has failed.
    Preemptions do not count."""
    account: str | None = None
    """Slurm account."""
    partition: str | None = None
    """Slurm partition."""
    constraint: str | None = None
    """Features that the nodes must have."""
    sbatch: dict[str, str] = Field({})
    """Other options of sbatch by their long names, e.g. `{qos: long}`. For GPUs of one model give
    `{gres: "gpu:a100:4"}` beside `gpus_per_node: 4`."""

    @property
    def processes_on_a_node(self) -> int:
        """Number of processes that train on each node."""
        return self.processes_per_node or max(self.gpus_per_node, 1)
