"""How pretraining is started. It changes no result, so it reruns nothing."""

from typing import Literal

from pydantic import Field

from deepclust.core.options import Options


class LauncherOptions(Options):
    """Where the processes of a pretraining run."""

    method: Literal["here", "submitit"] = "here"
    """`here`: on the machine that runs the rule, one process per GPU. `submitit`: as a job of its own, on several nodes
    if wanted, which goes on after preemption and at the end of its time."""
    cluster: Literal["slurm", "local", "debug"] | None = None
    """What submitit submits to: Slurm, processes of this machine, or one process for debugging. By default Slurm where
    there is one, else this machine."""
    nodes: int = Field(1, ge=1)
    """Nodes of the job."""
    gpus_per_node: int = Field(1, ge=0)
    """GPUs on each node; 0: train on CPUs. Under `sbatch: {gres: …}` only the number of processes."""
    processes_per_node: int | None = Field(None, ge=1)
    """Processes on each node. By default one per GPU."""
    cpus_per_process: int = Field(8, ge=1)
    """CPUs of each process."""
    memory_gb: float = Field(64, gt=0)
    """Memory on each node."""
    minutes: int = Field(720, ge=1)
    """Time limit of the job. Shortly before, training saves its state, and the job goes back into the queue."""
    time_slices: int = Field(20, ge=1)
    """Time limits that a training may use up: if it has not ended by the last of them, it has failed. Preemptions
    do not count."""
    account: str | None = None
    """Slurm account."""
    partition: str | None = None
    """Slurm partition."""
    constraint: str | None = None
    """Features that the nodes must have."""
    sbatch: dict[str, str] = Field({})
    """Other options of sbatch by their long names, e.g. `{qos: long}`. GPUs of a model: `{gres: "gpu:a100:4"}` beside
    `gpus_per_node: 4`."""

    @property
    def processes_on_a_node(self) -> int:
        """How many processes train on each node."""
        return self.processes_per_node or max(self.gpus_per_node, 1)
