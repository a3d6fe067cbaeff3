"""CPU time of planning: the default experiment, a thousand runs, and finding that nothing is to be done.

Planning runs in one thread, so that on an idle machine it takes as long. Baseline: the same Snakemake on a workflow of
one rule, which is what any workflow pays.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from timing import Row

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "rule all:\n    shell: 'true'\n"


def snakemake(folder: Path, *words: str) -> tuple[float, str]:
    """CPU seconds and output of a command; the better of two, so that the file cache is warm."""
    best, text = float("inf"), ""
    for _ in range(2):
        start = cpu_of_children()
        done = subprocess.run([sys.executable, "-m", "snakemake", *words], cwd=folder, capture_output=True, text=True)
        best, text = min(best, cpu_of_children() - start), done.stdout + done.stderr
        assert done.returncode == 0, text[-2000:]
    return best, text


def cpu_of_children() -> float:
    """Seconds of all processes that were started from here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def thousand_runs() -> dict:
    """100 backbones x 10 numbers of clusters on the digits."""
    backbones = {f"simclr-{i}": {"method": "simclr", "dataset": "digits", "seed": i} for i in range(100)}
    runs = [{"dataset": "digits", "backbones": list(backbones), "heads": ["kmeans"], "k": list(range(2, 12))}]
    heads = {"kmeans": {"method": "kmeans"}}
    return {"datasets": {"digits": {"loader": "digits"}}, "backbones": backbones, "heads": heads, "runs": runs}


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Snakefile").write_text(EMPTY)
        base, _ = snakemake(folder, "-n", "--quiet", "all")
        (folder / "thousand.yaml").write_text(yaml.safe_dump(thousand_runs()))
        project = ["-s", str(ROOT / "Snakefile"), "-n", "--quiet", "all"]
        default, _ = snakemake(folder, *project, "--configfile", str(ROOT / "config.yaml"))
        thousand, _ = snakemake(folder, *project, "--configfile", "thousand.yaml")
    rows = [
        Row("snakemake -n, workflow of one rule (baseline)", base, "CPU s", None, 1.0),
        Row("snakemake -n, default experiment", default, "CPU s", 2.0, default / base),
        Row("snakemake -n, 1,000 runs", thousand, "CPU s", 12.0, thousand / base),
    ]
    _, text = snakemake(ROOT, "-n", "--quiet", "all")
    if "Nothing to be done" not in text:
        print("`make demo` first, to measure how long finding nothing to do takes", file=sys.stderr)
    else:
        again, _ = snakemake(ROOT, "--cores", "all")
        rows.append(Row("snakemake, nothing to do", again, "CPU s", 5.0, again / base))
    return rows


if __name__ == "__main__":
    print(*main(), sep="\n")
