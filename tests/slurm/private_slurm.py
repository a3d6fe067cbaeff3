"""A real Slurm for tests: own keys, ports and folders, two pretended nodes with a pretended GPU each, and one down.

It runs in a mount namespace in which its folder stands at /etc/slurm (jobs find their cluster there, because SLURM_CONF
does not reach them), and in a network namespace without any route: nothing outside sees it or can disturb it, and no
job can reach the internet.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel")
NODES = ("node1", "node2")
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
PR_SET_PDEATHSIG = 1
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP, IFF_RUNNING = 0x8914, 0x8916, 0x1, 0x40

# CPUs and memory are more than there is: jobs of the tests ask for what the profile says, and use next to nothing.
SLURM_CONF = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port0}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=2,sched_interval=2
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
InactiveLimit=0
MinJobAge=7200
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=DEFAULT CPUs=32 RealMemory=256000 State=UNKNOWN
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} Gres=gpu:small:1 Feature=old
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} Gres=gpu:large:1 Feature=new
NodeName=node3 NodeHostname={host} NodeAddr=127.0.0.1 Port={port3} Gres=gpu:small:1 CPUs=8 RealMemory=48000 State=DOWN
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=1-00:00:00 PriorityTier=1
PartitionName=gpu Nodes=node1,node2 MaxTime=1-00:00:00 PriorityTier=1
PartitionName=killable Nodes=node1,node2 MaxTime=1-00:00:00 PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=node1,node2 MaxTime=1:00:00 PriorityTier=10 PreemptMode=OFF
PartitionName=mixed Nodes=node1,node3 MaxTime=1-00:00:00 PriorityTier=1
"""

GRES_CONF = """
NodeName=node1 Name=gpu Type=small File=/dev/tty11
NodeName=node2 Name=gpu Type=large File=/dev/tty12
"""


def missing(programs=PROGRAMS):
    """Why Slurm cannot run here, or an empty string."""
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return (
            f"Slurm is not installed (apt-get install slurm-wlm munge slurmdbd mariadb-server): no {', '.join(absent)}"
        )
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        return "a private Slurm needs root and the right to make namespaces of its own"
    return "" if Path("/etc/slurm").is_dir() else "there is no /etc/slurm to put the configuration at"


LIBC = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespaces(folder):
    """Give this process, and all it starts from now on, a /etc/slurm of their own and a network without any route.

    Returns:
        A function that takes a new process back to the network outside (`preexec_fn`).
    """
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET))
    check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    check(LIBC.mount(str(folder).encode(), b"/etc/slurm", None, MS_BIND, None))
    # The daemons talk over the loopback device. Without an address beside 127.0.0.1 getaddrinfo resolves nothing.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("198.51.100.1"))
        fcntl.ioctl(any_socket, SIOCSIFADDR, address)
    return lambda: check(LIBC.setns(outside, CLONE_NEWNET))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def job_of_process(process):
    """The Slurm job that a process belongs to, or None."""
    try:
        if step := re.match(r"slurmstepd: \[(\d+)\.", " ".join(process.cmdline())):
            return step[1]
        return process.environ().get("SLURM_JOB_ID")
    except psutil.Error:
        return None


class Slurm:
    """The daemons and what tests ask them."""

    def __init__(self, folder, accounting=None):
        """Args: `accounting`: starts it and returns what it changes in the configuration."""
        self.folder = Path(folder)
        self.accounting = accounting
        self.processes = {}

    def start(self):
        self.outside = enter_namespaces(self.folder)
        ports = dict(zip(("port0", "port1", "port2", "port3"), free_ports(4)))
        conf = SLURM_CONF.format(host=socket.gethostname(), folder=self.folder, **ports)
        (self.folder / "gres.conf").write_text(GRES_CONF)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self.spawn(
            "munged",
            *("--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"),
            *(f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munge.seed"),
            f"--log-file={self.folder}/munged.log",
        )
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        for before, after in (self.accounting(self) if self.accounting else {}).items():
            conf = conf.replace(before, after)
        (self.folder / "slurm.conf").write_text(conf)
        self.spawn("slurmctld", "-D")
        self.wait(lambda: "UP" in self.ask("scontrol", "ping", check=False), "slurmctld")
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: all(self.node_state(node) == "idle" for node in NODES), "the nodes")

    def spawn(self, program, *words, name=None):
        with (self.folder / f"{name or program}.out").open("ab") as out:
            command = ["nice", "-n", "5", shutil.which(program), *words]
            self.processes[name or program] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)),  # it does not outlive the tests
            )

    def start_node(self, node):
        self.spawn("slurmd", "-D", "-N", node, name=node)

    def kill_node(self, node):
        """The node dies: its daemon and every process of its jobs, all at once."""
        jobs = {job["id"] for job in self.jobs("RUNNING") if job["node"] == node}
        doomed = [process for process in self.own_processes() if job_of_process(process) in jobs]
        self.processes[node].kill()
        self.processes.pop(node).wait()
        for process in doomed:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def preempt(self, node):
        """A more urgent job wants the node's GPU, for a moment."""
        words = ["--partition=urgent", f"--nodelist={node}", "--gres=gpu:1", "--output=/dev/null"]
        self.ask("sbatch", *words, "--wrap", "sleep 1")

    def own_processes(self):
        """The processes in this namespace; no other is ever touched."""
        here = Path("/proc/self/ns/mnt").readlink()
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{process.pid}/ns/mnt").readlink() == here:
                    yield process

    def training(self, rule="pretrain"):
        """The processes of a rule's command."""
        found = []
        for process in self.own_processes():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if words[:1] == ["python"] and words[1].endswith(f"scripts/{rule}.py"):
                    found.append(process)
        return found

    def stop(self):
        subprocess.run(["scancel", "--user", "root"], capture_output=True, timeout=60)
        while self.processes:
            _, process = self.processes.popitem()  # the last started first
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- asking ---------------------------------------------------------------------------------------------------

    def ask(self, *command, check=True):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def node_state(self, node):
        return self.ask("sinfo", "-h", "-n", node, "-p", "main", "-o", "%t", check=False).strip()

    def jobs(self, states="all"):
        """All jobs that Slurm remembers, as dicts with id, state, comment, node …"""
        fields = {"id": "%i", "state": "%T", "partition": "%P", "comment": "%k", "node": "%N", "folder": "%Z"}
        fields |= {"start": "%S", "gres": "%b"}
        lines = self.ask("squeue", "-h", "-a", "-t", states, "-o", "|".join(fields.values())).splitlines()
        return [dict(zip(fields, line.split("|"))) for line in lines]

    def details(self, number):
        """What `scontrol show job` tells."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.ask("scontrol", "show", "job", number)))

    def job_of(self, rule, states="all"):
        """The newest job of a rule in one of these states, or None."""
        found = [job for job in self.jobs(states) if rule in job["comment"]]
        return max(found, key=lambda job: int(job["id"].split("_")[0])) if found else None

    def wait(self, condition, what, seconds=90):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                logs = "".join(path.read_text()[-1500:] for path in self.folder.glob("*.out"))
                raise AssertionError(f"waited {seconds} s for {what}; {logs}")
            time.sleep(0.2)
        return found
