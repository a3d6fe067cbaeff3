import os
import resource
import subprocess
import sys

import pytest
from hypothesis import settings

# Time limits per example fail on busy machines. The examples are the same in every run, so that a change is not held up
# by what others would find: DEEPCLUST_RANDOM_EXAMPLES=1 draws others, to search.
random = bool(os.environ.get("DEEPCLUST_RANDOM_EXAMPLES"))
settings.register_profile("deepclust", deadline=None, max_examples=50, derandomize=not random)
settings.load_profile("deepclust")


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Whatever ran before, a test that draws from PyTorch's own generator draws the same."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def same_threads():
    """A test that runs a command in this process, which sets its threads, leaves those of the others as they were."""
    before = dict(os.environ)
    yield
    threads = before.get("OMP_NUM_THREADS")
    if os.environ.get("OMP_NUM_THREADS") != threads:
        from deepclust.core.device import set_threads

        set_threads(int(threads or os.cpu_count() or 1))
        for name in THREADS:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in THREADS if name in before})


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KiB; where this user may mount none, files cannot grow beyond 64 KiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
        yield folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
