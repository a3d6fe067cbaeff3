"""A job that fails takes away the results it was to replace; what was made from them must not pass for new."""

import shutil

from small_experiment import snakemake


def test_a_job_that_failed_fails_again(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    broken = next((copy / "shapes").rglob("*.png")).with_name("broken.png")
    broken.write_text("no image")
    for _ in range(2):
        done = snakemake(copy, "--cores", "2", "--configfile", "small.yaml")
        assert done.returncode == 1 and "broken.png" in done.stderr, done.stderr[-3000:]
    broken.unlink()
    plan = snakemake(copy, "-n", "--configfile", "small.yaml").stdout
    assert {"prepare", "evaluate", "report_page"} <= {line.partition(" ")[0] for line in plan.splitlines()}, plan
