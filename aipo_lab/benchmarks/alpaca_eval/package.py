"""The package `alpaca-eval` with its side effects contained.

Importing it loads a `.env` file found above site-packages into the environment and sets the root logger to INFO;
its functions log through the root logger, switch global settings of scikit-learn and download from the Hub.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import MissingDependency

DOTENV_SWITCH = "PYTHON_DOTENV_DISABLED"
"""Of python-dotenv 1.2."""


def package_module(name: str) -> Any:
    """A module of the package, imported without its marks on the environment and the root logger.

    Raises `MissingDependency` when the package, or something it needs, is not installed.
    """
    switch, level = os.environ.get(DOTENV_SWITCH), logging.getLogger().level
    os.environ[DOTENV_SWITCH] = "1"
    try:
        with contained():
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f"AlpacaEval 2 needs the package alpaca-eval ({error}); install with: pip install 'aipo-lab[benchmarks]'"
        ) from error
    finally:
        logging.getLogger().setLevel(level)
        del os.environ[DOTENV_SWITCH]
        os.environ.update({} if switch is None else {DOTENV_SWITCH: switch})


@contextmanager
def contained() -> Iterator[None]:
    """Inside, the package's own log records and its dependencies' deprecation warnings are dropped.

    What it logs (calls without an answer, unparsable replies) is reported as `unjudged` instead.
    """
    root = logging.getLogger()
    # Without any handler logging.info() would install one for good; the stand-in does what Python does without.
    stand_in = None if root.handlers else logging.lastResort
    if stand_in is not None:
        root.addHandler(stand_in)
    root.addFilter(_is_not_of_the_package)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"alpaca_eval|sklearn")
            yield
    finally:
        root.removeFilter(_is_not_of_the_package)
        if stand_in is not None:
            root.removeHandler(stand_in)


def _is_not_of_the_package(record: logging.LogRecord) -> bool:
    return "alpaca_eval" not in Path(record.pathname).parts


@contextmanager
def difficulty_file(path: Path) -> Iterator[Any]:
    """The package's module of length-controlled rates, reading `path` in place of the Hub's newest df_gamed.csv.

    The package has no parameter for the file, hence the exchange of its downloader while the context lasts.
    """
    module = package_module("alpaca_eval.metrics.glm_winrate")
    sklearn = importlib.import_module("sklearn")
    downloader = module.hf_hub_download
    module.hf_hub_download = lambda **_: str(path)
    try:
        with contained(), sklearn.config_context():  # which undoes the package's sklearn.set_config
            yield module
    finally:
        module.hf_hub_download = downloader
