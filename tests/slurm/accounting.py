"""Accounting for the private Slurm: MariaDB and slurmdbd, with one account."""

import subprocess

from private_slurm import free_ports

PROGRAMS = ("mariadbd", "mariadb", "mariadb-install-db", "slurmdbd", "sacctmgr", "sacct")

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=secret
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""
# As on clusters with accounting: the controller soon forgets jobs, so that squeue could not tell how they ended.
SLURM_CONF = {
    "AccountingStorageType=accounting_storage/none": """AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations""",
    "MinJobAge=7200": "MinJobAge=2",
}


def start_accounting(slurm):
    """Start it; returns the changes to slurm.conf."""
    folder = slurm.folder
    port, database_port = free_ports(2)
    data = [f"--datadir={folder}/database", "--user=root"]
    words = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(["mariadb-install-db", "--no-defaults", *data, *words], check=True, capture_output=True)
    place = [f"--socket={folder}/mariadb.socket", f"--port={database_port}", "--bind-address=127.0.0.1"]
    slurm.spawn("mariadbd", "--no-defaults", *data, *place, f"--pid-file={folder}/mariadb.pid")
    user = "create user slurm@'{0}' identified by 'secret'; grant all on slurm.* to slurm@'{0}';"
    users = "".join(user.format(host) for host in ("127.0.0.1", "localhost"))
    client = ["mariadb", "--no-defaults", f"--socket={folder}/mariadb.socket", "-e", users]
    slurm.wait(lambda: subprocess.run(client, capture_output=True).returncode == 0, "MariaDB")

    values = {"folder": folder, "port": port, "database_port": database_port}
    conf = folder / "slurmdbd.conf"
    conf.write_text(SLURMDBD_CONF.format(**values))
    conf.chmod(0o600)
    changes = {before: after.format(**values) for before, after in SLURM_CONF.items()}
    # What sacctmgr needs to know before there is a controller.
    client_conf = "ClusterName=private\nSlurmctldHost=localhost\nNodeName=none\nPartitionName=none Nodes=none\n"
    client_conf += f"AuthInfo=socket={folder}/munge.socket\n"
    (folder / "slurm.conf").write_text(client_conf + next(iter(changes.values())))
    slurm.spawn("slurmdbd", "-D")
    add = ["sacctmgr", "-i", "add"]
    slurm.wait(lambda: subprocess.run([*add, "cluster", "private"], capture_output=True).returncode == 0, "slurmdbd")
    slurm.ask(*add, "account", "vision", "cluster=private")
    slurm.ask(*add, "user", "root", "account=vision")
    return changes
