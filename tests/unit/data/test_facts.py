import json
import pkgutil
import subprocess
import sys

import pytest
from pydantic import ValidationError

from deepclust.core import registry
from deepclust.core.fingerprint import SCRIPTS
from deepclust.data import loaders
from deepclust.data.facts import Archive, ArchiveOptions, DatasetFacts, FilesOptions, Variant

LOADERS = sorted(module.name for module in pkgutil.iter_modules(loaders.__path__))


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_say_what_planning_needs(name):
    module = registry.load("data.loaders", name)
    facts = module.FACTS
    assert isinstance(facts, DatasetFacts)
    assert DatasetFacts.model_validate(json.loads(facts.model_dump_json())) == facts
    assert "train" in facts.splits
    assert set(facts.optional_splits) <= set(facts.splits)
    options = module.Options.model_fields
    assert set(facts.optional_splits.values()) <= set(options)
    assert (len(facts.archives) == 1) == issubclass(module.Options, ArchiveOptions)
    assert (len(facts.archives) > 1) == issubclass(module.Options, FilesOptions)
    assert set(facts.variants) <= set(options)
    assert all(field.description for field in options.values())


def test_loaders_import_no_torch():
    code = (
        "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(f'deepclust.data.loaders.{name}')\n"
    )
    code += "assert not {'torch', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, *LOADERS], cwd=SCRIPTS, check=True)


def test_checksums_are_checksums():
    with pytest.raises(ValidationError, match="md5"):
        Archive(file="x", sources=("https://example.org/x",), md5="no checksum")


def test_variants_replace_what_they_name():
    variants = {"a": Variant(classes=2), "None": Variant(published_as="X")}
    facts = DatasetFacts(splits={"train": 3}, classes=4, variants={"source": variants})
    assert facts.of(ArchiveOptions(source="a")).classes == 2
    assert facts.of(ArchiveOptions()).published_as == "X"
    other = facts.of(ArchiveOptions(source="b"))
    assert (other.splits, other.classes, other.published_as) == ({"train": 3}, 4, None)
    assert json.loads(facts.model_dump_json())["variants"]["source"]["a"] == {"classes": 2}


def test_files_of_a_split():
    first, second = (Archive(file=x, sources=(x,), splits=(x,)) for x in ("train", "test"))
    both = Archive(file="both", sources=("x",))
    facts = DatasetFacts(splits={"train": None, "test": None}, archives=(first, both, second))
    assert facts.archives_of("train") == [first, both] and facts.archives_of("test") == [both, second]


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({}, True),
        ({"source": "/data/x.tar.gz"}, True),
        ({"source": ["https://example.org/x", "x"], "sha256": "a" * 64}, True),
        ({"sha256": "any"}, True),
        ({"sha256": "A" * 64}, False),
        ({"sha256": "abc"}, False),
        ({"source": []}, False),
        ({"source": 3}, False),
        ({"sources": "x"}, False),
    ],
)
def test_options_of_a_download(options, valid):
    if valid:
        ArchiveOptions(**options)
    else:
        with pytest.raises(ValidationError):
            ArchiveOptions(**options)
