import functools
import inspect

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.planning.ending import ending, stop_with
from deepclust.planning.plan import ExperimentError


def given(name, wildcards, threads=1):
    if wildcards == "bad":
        raise DeepclustError(f"{name} is missing: add it")
    if wildcards == "worse":
        raise ExperimentError(["seeds: too few", "runs.0: too many"])
    return name, wildcards, threads


@pytest.mark.parametrize(
    ("wildcards", "said"), [("bad", "photos is missing: add it\n"), ("worse", "seeds: too few\nruns.0: too many\n")]
)
def test_errors_end_the_process_with_their_lines(wildcards, said, capsys):
    with pytest.raises(SystemExit) as end:
        ending(functools.partial(given, "photos"))(wildcards)
    assert end.value.code == 1
    assert capsys.readouterr() == ("", said)


def test_snakemake_sees_the_names_of_the_function():
    function = functools.partial(given, "photos")
    ended = ending(function)
    assert ended("train", threads=4) == ("photos", "train", 4)
    assert inspect.signature(ended) == inspect.signature(function)


def test_other_errors_stay():
    with pytest.raises(ZeroDivisionError):
        ending(lambda: 1 / 0)()


def test_no_lines_are_no_end():
    assert stop_with([]) is None
