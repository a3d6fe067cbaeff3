"""Peak memory is that of the job, whatever started it."""

import subprocess
import sys

from deepclust.core.fingerprint import SCRIPTS


def test_memory_of_the_process_that_started_a_job_does_not_count():
    large = bytearray(700 * 2**20)
    large[:: 2**12] = b"1" * len(large[:: 2**12])
    code = "from deepclust.core.provenance import peak_memory_mb; print(peak_memory_mb())"
    result = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 400
    del large
