"""A nested section that is given in part keeps the defaults of the method that it stands in, in Python as in YAML."""

import importlib

import pytest
from pydantic import BaseModel, ValidationError, create_model

from deepclust.core.command import JobArguments, parse_arguments
from deepclust.core.options import Options
from deepclust.planning.schema import Schema
from deepclust.pretraining import secu

REQUIRED = {"dataset": "d", "clusters": 3, "start_from": "b"}


def sections():
    """Every nested section of every method: the method's options, the section, and another value for a key of it."""
    found = []
    for definition in Schema().definitions.values():
        if "x-module" not in definition:
            continue
        options = importlib.import_module(definition["x-module"]).Options
        for name, field in options.model_fields.items():
            if isinstance(section := field.default, BaseModel):
                numbers = {key: value for key, value in section if type(value) in (int, float)}
                key = min(numbers, key=section.model_fields_set.__contains__)  # one that the method left alone, if any
                value = numbers[key] / 2 if isinstance(numbers[key], float) else numbers[key] + 1
                found.append(pytest.param(options, name, key, value, id=f"{options.__module__}.{name}"))
    return found


@pytest.mark.parametrize(("options", "section", "key", "value"), sections())
def test_a_section_keeps_the_defaults_of_its_method(options, section, key, value):
    given = {name: value for name, value in REQUIRED.items() if name in options.model_fields}
    whole = options(**given)
    expected = whole.model_copy(update={section: getattr(whole, section).model_copy(update={key: value})})
    assert options(**given, **{section: {key: value}}).model_dump() == expected.model_dump() != whole.model_dump()
    words = [word for name, text in given.items() for word in (f"--{name}", str(text))]
    arguments = create_model("Arguments", __base__=(JobArguments, options))
    parsed = parse_arguments("demo", arguments, [*words, f"--{section}.{key}", str(value)])
    assert getattr(parsed, section) == getattr(expected, section)


def test_secu_keeps_its_blur():
    augmentation = secu.Options(dataset="d", clusters=3, augmentation={"crop_scale": (0.5, 1.0)}).augmentation
    assert (augmentation.crop_scale, augmentation.blur_probability, augmentation.saturation) == ((0.5, 1.0), 1.0, 0.2)


class Inner(Options):
    a: int = 1
    b: int = 2


class Middle(Options):
    inner: Inner = Inner(b=3)
    c: int = 4


class Outer(Options):
    middle: Middle = Middle(inner=Inner(a=5), c=6)


def test_sections_within_sections():
    assert Outer(middle={"inner": {"b": 7}}).middle == Middle(inner=Inner(a=5, b=7), c=6)
    assert Outer(middle={"c": 8}).middle == Middle(inner=Inner(a=5), c=8)
    assert Outer(middle=Middle(c=8)).middle == Middle(inner=Inner(b=3), c=8)


def test_what_is_wrong_in_a_section_is_still_an_error():
    for wrong in ({"inner": {"d": 1}}, {"inner": {"a": "many"}}, {"inner": 3}):
        with pytest.raises(ValidationError, match="inner"):
            Outer(middle=wrong)
