"""Another workflow uses this one as a module, with an experiment of its own and rules of its own around it."""

import re

import pytest
import yaml

from small_experiment import ROOT, deepclust, snakemake

OTHER = """\
configfile: "other.yaml"

module deepclust:
    snakefile: "{home}/Snakefile"
    config: config["clusters"]

use rule * from deepclust{naming}

rule count:
    input: rules.{prefix}report_page.output.page
    output: "characters.txt"
    default_target: True
    shell: "wc -m < {{input}} > {{output}}"

onstart:
    deepclust.onstart()

onsuccess:
    deepclust.onsuccess()
"""
EXPERIMENT = {
    "datasets": {"digits": {"loader": "digits"}},
    "backbones": {"pixels": {"method": "pixels"}},
    "heads": {"kmeans": {"method": "kmeans", "n_init": 1}},
    "runs": [{"dataset": "digits", "backbones": ["pixels"], "heads": ["kmeans"], "k": 10}],
    "seeds": 1,
}
NAMINGS = {"dc_": " as dc_*", "": ""}


def write(folder, prefix, **changes):
    (folder / "Snakefile").write_text(OTHER.format(home=ROOT, naming=NAMINGS[prefix], prefix=prefix))
    (folder / "other.yaml").write_text(yaml.safe_dump({"clusters": EXPERIMENT | changes}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The other workflow, in which all rules of this one have another name, after it ran to the report."""
    folder = tmp_path_factory.mktemp("other")
    write(folder, "dc_")
    done = snakemake(folder, "--cores", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "output.txt").write_text(done.stderr)
    return folder


def test_it_runs_to_the_report(folder):
    page = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert int((folder / "characters.txt").read_text()) == len(page)
    assert "digits" in page and "kmeans" in page
    assert re.search(r"digits +pixels +kmeans +10 +test +\d", (folder / "output.txt").read_text())
    assert list((folder / ".snakemake" / "deepclust").glob("plan-*.json"))


@pytest.mark.parametrize("prefix", NAMINGS)
def test_nothing_runs_again_under_either_name(folder, prefix):
    write(folder, prefix)
    done = snakemake(folder, "-n")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize("prefix", NAMINGS)
def test_a_change_runs_what_it_invalidates(folder, prefix):
    write(folder, prefix, seeds=2)
    planned = snakemake(folder, "-n")
    said = planned.stdout + planned.stderr
    assert planned.returncode == 0 and "option seeds ([0], now [0, 1])" in said and "experiment" in said
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    assert counts[f"{prefix}cluster"] == "1" and f"{prefix}extract_features" not in counts
    told = deepclust(folder, "plan", "-s", "Snakefile")
    assert told.returncode == 0 and f"{prefix}cluster" in told.stdout, told.stderr


def test_its_own_mistakes_are_one_line(folder):
    write(folder, "dc_", heads={"kmeans": {"method": "kmean"}})
    done = snakemake(folder, "-n")
    assert done.returncode == 1 and "did you mean 'kmeans'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
