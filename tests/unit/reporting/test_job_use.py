import json

import pytest

from deepclust.reporting.job_use import read_use, use_table


def record(folder, name, **changes):
    content = {
        "rule": "pretrain",
        "seconds": 100.0,
        "cpu_seconds": 300.0,
        "peak_memory_mb": 500.0,
        "peak_gpu_memory_mb": 2000.0,
        "gpu_memory_mb": 8000.0,
        "gpu_utilization": 0.9,
        "requested": {"threads": 4, "memory_mb": 1000, "minutes": 10},
    }
    path = folder / f"{name}.provenance.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_shares_of_what_was_asked_for(tmp_path):
    (use,) = read_use([record(tmp_path, "a")])
    assert use.memory_share == 500 / 1000
    assert use.time_share == pytest.approx(100 / 600)


def test_nothing_was_asked_for(tmp_path):
    (use,) = read_use([record(tmp_path, "a", requested={"threads": None, "memory_mb": None, "minutes": None})])
    assert use.memory_share is None and use.time_share is None
    (row,) = use_table([use]).rows
    assert [cell.text for cell in row] == [
        "pretrain",
        "1",
        "1 min 40 s",
        "1 min 40 s",
        "",
        "500 MiB",
        "90 %",
        "2,000 MiB",
    ]


def test_one_row_per_rule(tmp_path):
    paths = [
        record(tmp_path, "a"),
        record(tmp_path, "b", seconds=300.0, cpu_seconds=300.0, peak_memory_mb=900.0, gpu_utilization=0.5),
        record(tmp_path, "c", rule="evaluate", peak_gpu_memory_mb=None, gpu_memory_mb=None, gpu_utilization=None),
        tmp_path / "absent.provenance.json",
    ]
    pretrain, evaluate = use_table(read_use(paths)).rows
    assert [cell.text for cell in pretrain] == [
        "pretrain",
        "2",
        "6 min 40 s",
        "5 min 00 s",
        "38 %",
        "900 MiB",
        "60 %",
        "2,000 MiB",
    ]
    assert [cell.detail for cell in pretrain] == ["", "", "", "50 %", "", "90 %", "", "25 %"]
    assert evaluate[0].text == "evaluate" and evaluate[6].text == evaluate[7].text == ""


def test_the_highest_peak_is_held_against_what_its_own_job_requested(tmp_path):
    paths = [
        record(tmp_path, "large", peak_memory_mb=9000.0, requested={"threads": 4, "memory_mb": 32000, "minutes": 10}),
        record(tmp_path, "full", peak_memory_mb=900.0, requested={"threads": 4, "memory_mb": 1000, "minutes": 10}),
    ]
    (row,) = use_table(read_use(paths)).rows
    assert (row[5].text, row[5].detail) == ("9,000 MiB", "28 %")


def test_parts_of_a_job_count_as_jobs(tmp_path):
    part = json.loads(record(tmp_path, "part", rule="extract_part").read_text())
    joined = record(tmp_path, "features", rule="extract_features", seconds=1.0, parts=[part, part])
    parts, join = use_table(read_use([joined])).rows
    assert [cell.text for cell in parts[:3]] == ["extract_part", "2", "3 min 20 s"]
    assert [cell.text for cell in join[:2]] == ["extract_features", "1"]


def test_records_of_older_versions_are_passed_over(tmp_path):
    path = record(tmp_path, "a")
    content = json.loads(path.read_text())
    del content["requested"]
    path.write_text(json.dumps(content))
    assert use_table(read_use([path])).rows == []
