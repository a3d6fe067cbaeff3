from types import SimpleNamespace

import pytest
from snakemake.jobs import Reason
from snakemake.persistence import ParamsChange

from deepclust.core.fingerprint import SCRIPTS
from deepclust.planning.jobs import STATES
from deepclust.planning.layout import RULES, log_of
from deepclust.planning.reasons import LONGEST, changes, told

HASH, OTHER = "0123456789abcdef", "fedcba9876543210"
WILDCARDS = {"dataset": "photos", "backbone": "dino", "file": "archive.tar"}


RULES_FILE = str(SCRIPTS.parent / "rules" / "data.smk")


def job(rule, alias=None):
    log = [log_of(rule)] if rule in RULES else []
    named = SimpleNamespace(name=alias or rule, snakefile=RULES_FILE, log=log)
    return SimpleNamespace(rule=named, wildcards_dict=WILDCARDS)


def words(old, new, rule="cluster"):
    before, now = {repr(value) for value in old}, {repr(value) for value in new}
    return [str(change) for change in changes(ParamsChange(before - now, now - before), job(rule))]


def test_code_is_told_by_module():
    before = [
        f"evaluate.py:{HASH}",
        f"deepclust.core.files:{HASH}",
        [f"deepclust.heads.scan:{HASH}", f"left.out:{HASH}"],
    ]
    now = [
        f"evaluate.py:{HASH}",
        f"deepclust.core.files:{OTHER}",
        [f"deepclust.heads.scan:{OTHER}", f"left.out:{HASH}"],
    ]
    assert words(before, now) == ["code of core.files", "code of heads.scan"]


def test_options_are_told_with_their_values():
    before = {"seeds": [0, 1], "n_init": 2, "augmentation": {"hue": 0.1, "flip": True}, "gone": "x", "same": None}
    now = {"seeds": [0], "n_init": 2, "augmentation": {"hue": 0.2, "flip": True}, "new": {}, "same": None}
    assert words([before], [now]) == [
        "option augmentation.hue (0.1, now 0.2)",
        "option gone (x, now null)",
        "option new (null, now {})",
        "option seeds ([0, 1], now [0])",
    ]


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("prepare", "images of photos"),
        ("download", "source of archive.tar"),
        ("fetch_weights", "weights of dino"),
        ("write_experiment", "experiment"),
        ("list_runs", "list of runs"),
    ],
)
def test_digests_are_told_as_what_they_are(rule, what):
    assert words([[HASH]], [[OTHER, "5 bytes of 17"]], rule) == [what]


def test_every_rule_that_has_digests_says_of_what():
    assert set(STATES) <= set(RULES)
    for rule, state in STATES.items():
        assert words([["a"]], [["b"]], rule) == [state.what.format(**WILDCARDS)] != ["parameters"]


def test_what_another_version_recorded_is_no_error():
    assert words(["<function f at 0x7f>", 3], [{"epochs": 2}]) == ["parameters"]


LONG = {f"results/{'x' * 100}/{'y' * 100}/{number}.npy" for number in range(1000)}


def reason(**known):
    made = Reason()
    for name, value in known.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "known",
    [{name: LONG} for name in ("_updated_input_run", "_updated_input", "_missing_output", "_incomplete_output")]
    + [
        {
            "params_changed": ParamsChange({repr({f"o{n}": "a" * 1000 for n in range(99)})}, {"{}"}),
            "_updated_input": LONG,
        },
        {
            "params_changed": ParamsChange(set(), {f"'deepclust.a{n}.b:{HASH}'" for n in range(99)}),
            "code_changed": True,
        },
    ],
)
def test_no_reason_is_long(known):
    text = told(SimpleNamespace(reason=lambda _: reason(**known)), job("cluster"))
    assert 20 < len(text) <= LONGEST == 500


def test_everything_that_holds_is_told():
    known = reason(
        params_changed=ParamsChange({repr([HASH])}, {repr([OTHER])}),
        _updated_input={"b", "a"},
        _updated_input_run={"b"},
        input_changed=True,
        code_changed=True,
        software_stack_changed=True,
    )
    text = told(SimpleNamespace(reason=lambda _: known), job("prepare"))
    assert text.split("; ") == [
        "Changed since last execution: images of photos",
        "Updated input files: a",
        "Input files updated by another job: b",
        "Command of the rule has changed since last execution",
        "Set of input files has changed since last execution",
        "Software environment definition has changed since last execution",
    ]


@pytest.mark.parametrize("name", ["forced", "noio", "nooutput", "pipe"])
def test_what_is_short_is_told_by_snakemake(name):
    known = reason(**{name: True})
    assert told(SimpleNamespace(reason=lambda _: known), job("all")) == str(known) != ""
