"""How long planning takes: the default experiment, a thousand runs, and finding that nothing is to be done.

Baseline: the same Snakemake on a workflow of one rule, which is what any workflow pays.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from timing import Row

ROOT = Path(__file__).resolve().parent.parent
EMPTY = "rule all:\n    shell: 'true'\n"


def snakemake(folder: Path, *words: str) -> tuple[float, str]:
    """Seconds and output of a command; the better of two, so that the file cache is warm."""
    best, text = float("inf"), ""
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "snakemake", *words], cwd=folder, capture_output=True, text=True)
        best, text = min(best, time.perf_counter() - start), done.stdout + done.stderr
        assert done.returncode == 0, text[-2000:]
    return best, text


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
        Row("snakemake -n, workflow of one rule (baseline)", base, "s", None, 1.0),
        Row("snakemake -n, default experiment", default, "s", 3.0, default / base),
        Row("snakemake -n, 1,000 runs", thousand, "s", 15.0, thousand / base),
    ]
    _, text = snakemake(ROOT, "-n", "--quiet", "all")
    if "Nothing to be done" not in text:
        print("`make demo` first, to measure how long finding nothing to do takes", file=sys.stderr)
    else:
        again, _ = snakemake(ROOT, "--cores", "all")
        rows.append(Row("snakemake, nothing to do", again, "s", 5.0, again / base))
    return rows


if __name__ == "__main__":
    print(*main(), sep="\n")
