"""Jobs that Slurm cancels for more urgent ones: Snakemake would wait for them for ever, so they are put back."""

import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from deepclust.slurm.cluster import Cluster, Request, SlurmError, queued_jobs

EVERY = 20.0  # seconds between two looks, unless Slurm forgets ended jobs sooner


def lost_if_preempted(requests: Iterable[Request], cluster: Cluster) -> list[str]:
    """Return partitions whose preempted jobs would end for good, one line each, for jobs that may not be requeued."""
    names = {name for request in requests for name in (request.partition or cluster.default or "").split(",")}
    return [
        f"partition {name} cancels jobs for more urgent ones (PreemptMode=CANCEL), and Snakemake would wait for them "
        "for ever: set slurm-requeue: true, or choose another partition"
        for name in sorted(names & cluster.partitions.keys())
        if cluster.partitions[name].cancels
    ]


class PreemptionWatch:
    """A watch that puts preempted jobs of a folder back into the queue; make it before the first is submitted.

    Jobs of an earlier Snakemake stay as they are: nobody waits for them, and others are submitted in their place.

    Raises:
        SlurmError: Slurm does not answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.earlier = {job.id for job in queued_jobs(folder, "PREEMPTED")}
        self.refused: set[str] = set()

    def start(self, cluster: Cluster) -> None:
        """Look now and then, until the process ends."""
        every = max(1.0, min(EVERY, cluster.remembers / 3))

        def watch() -> None:
            while True:
                time.sleep(every)
                try:
                    self.requeue()
                except (SlurmError, subprocess.TimeoutExpired):
                    continue  # a busy controller; ask again later

        threading.Thread(target=watch, name="preemption", daemon=True).start()

    def requeue(self) -> None:
        """Put preempted jobs back; a refusal of Slurm is said once, and the job is tried again next time."""
        for job in queued_jobs(self.folder, "PREEMPTED"):
            if job.id in self.earlier:
                continue
            done = subprocess.run(["scontrol", "requeue", job.id], capture_output=True, text=True, timeout=60)
            said = f"Slurm job {job.id} ({job.what}) was preempted: "
            if done.returncode == 0:
                self.refused.discard(job.id)
                print(f"{said}back in the queue", flush=True)
            elif job.id not in self.refused:
                self.refused.add(job.id)
                print(f"{said}not requeued yet: {' '.join(done.stderr.split())}", flush=True)
