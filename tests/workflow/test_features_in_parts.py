"""Features in parts are those of one job, and how many parts there are makes nothing anew."""

import json
import shutil

from small_experiment import snakemake

FEATURES = "results/features/shapes/fetched/train/features.npy"
RUN = ("--cores", "2", "--set-threads", "extract_features=1", "extract_part=1", "--configfile", "small.yaml")


def test_features_in_parts(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    expected = (copy / FEATURES).read_bytes()
    shutil.rmtree((copy / FEATURES).parent)
    done = snakemake(copy, *RUN, "--set-scatter", "extract_features=2", "--", FEATURES)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (copy / FEATURES).read_bytes() == expected
    record = json.loads((copy / FEATURES).with_name("features.provenance.json").read_text())
    assert [part["rule"] for part in record["parts"]] == ["extract_part"] * 2
    assert {path.name for path in (copy / FEATURES).parent.iterdir()} == {"features.npy", "features.provenance.json"}
    for number in ("1", "2", "3"):
        again = snakemake(copy, *RUN, "-n", "--set-scatter", f"extract_features={number}", "--", FEATURES)
        assert "Nothing to be done" in again.stdout + again.stderr
    # Made again for another reason, under another number than the one that it keeps.
    again = snakemake(
        copy, *RUN, "--forcerun", "extract_features", "--set-scatter", "extract_features=3", "--", FEATURES
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"{FEATURES} is made again in parts as before: 2, not 3" in again.stderr
