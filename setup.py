"""The packages: all below sepkit/, and recipes/ as sepkit.recipes; everything else stands in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["sepkit", "sepkit.*"]), "sepkit.recipes"],
    package_dir={"sepkit.recipes": "recipes"},
)
