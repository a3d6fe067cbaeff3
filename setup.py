"""The scripts of the rules lie beside the library, where the rules call them; installed, they are a part of it."""

from setuptools import find_packages, setup

LIBRARY = "workflow/scripts"

setup(
    packages=[*find_packages(LIBRARY), "deepclust.scripts"],
    package_dir={"": LIBRARY, "deepclust.scripts": LIBRARY},
)
