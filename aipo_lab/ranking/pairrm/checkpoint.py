"""A PairRM checkpoint on disk: which of the two published layouts it has, its limits, and where its parts lie.

`PairRM` has the settings of llm-blender in config.json and names a backbone, of which only the tokenizer and the shape
matter: the checkpoint holds all weights. `PairRM-hf` is a model folder with everything in it. Both name weights alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.jsonl import read_json
from aipo_lab.core.paths import is_there
from aipo_lab.models.fingerprint import fingerprint_files, fingerprint_folder
from aipo_lab.models.locating import MODEL_FILES, download_model, locate_model

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
TOKENIZER_FILES = ("tokenizer.json", "spm.model")
HUB_FILES = (*MODEL_FILES, PICKLED)
BACKBONE_FILES = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "config.json", "spm.model")
"""What may be fetched of a backbone: never its weights."""
SOURCE_TOKENS, CANDIDATE_TOKENS = 1224, 412
"""The release's limits, which `PairRM-hf` does not state; of whole segments, with [CLS], prefix and [SEP]."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was found.

    `backbone`: the folder with the tokenizer, and with the shape of the network where it has a config.json; that of the
    checkpoint itself if it holds these. `limits`: most tokens of a source and of a candidate. `stated_ids`: token ids
    that config.json gives for the prefixes.
    """

    folder: Path
    backbone: Path
    is_hf: bool
    limits: tuple[int, int]
    stated_ids: Mapping[str, int]

    @property
    def weights(self) -> Path:
        """The file of the weights: safetensors where there is one."""
        safe = self.folder / SAFETENSORS
        return safe if safe.is_file() else self.folder / PICKLED

    def fingerprint(self) -> str:
        """A hash of its content, and of the backbone's files where these lie elsewhere."""
        own = fingerprint_folder(self.folder, also=() if self.weights.name == SAFETENSORS else (PICKLED,))
        return own if self.backbone == self.folder else f"{own}-{_backbone_fingerprint(self.backbone)}"


def find_checkpoint(source: str) -> Checkpoint:
    """The checkpoint that the setting `rank.model` names.

    Raises `UserError` with every reason why it is none.
    """
    folder = locate_model(source, "rank.model", HUB_FILES)
    config = _read_config(folder)
    problems = []
    if not any((folder / name).is_file() for name in (SAFETENSORS, PICKLED)):
        problems.append(f"it holds neither {SAFETENSORS} nor {PICKLED}")
    is_hf = "ranker_type" not in config
    if is_hf and config.get("model_type") != "deberta-v2":
        problems.append(f"its model_type is {config.get('model_type')!r}, not that of PairRM-hf, 'deberta-v2'")
    if not is_hf and (config.get("ranker_type") != "pairranker" or config.get("model_type") != "deberta"):
        problems.append(
            f"its ranker_type and model_type are {config.get('ranker_type')!r} and {config.get('model_type')!r}, "
            "not 'pairranker' and 'deberta'"
        )
    problems += [f"its {name} is {config[name]!r}, not a number of tokens" for name in _wrong_limits(config)]
    if not problems and (folder / SAFETENSORS).is_file():
        problems += _weight_problems(folder / SAFETENSORS)
    if problems:
        raise UserError.from_problems(f"rank.model {folder} is not a PairRM checkpoint:", problems)
    limits = (config.get("source_maxlength", SOURCE_TOKENS), config.get("candidate_maxlength", CANDIDATE_TOKENS))
    names = ("source_prefix_id", "cand_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
    stated = {name: int(config[name]) for name in names if isinstance(config.get(name), int)}
    return Checkpoint(folder, folder if is_hf else _backbone(folder, config), is_hf, limits, stated)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise UserError(f"rank.model {folder}: its config.json cannot be read ({error}); fetch it again") from None
    if not isinstance(config, dict):
        raise UserError(f"rank.model {folder}: its config.json holds no object; fetch it again")
    return config


def _wrong_limits(config: Mapping[str, Any]) -> list[str]:
    given = {name: config[name] for name in ("source_maxlength", "candidate_maxlength") if name in config}
    return [name for name, value in given.items() if not isinstance(value, int) or value < 4]


def _weight_problems(path: Path) -> list[str]:
    """What a safetensors file lacks, from its header."""
    from safetensors import SafetensorError, safe_open

    needed = {f"head_layer.{i}.{kind}" for i in (1, 4) for kind in ("weight", "bias")}
    needed.add("pretrained_model.embeddings.word_embeddings.weight")
    try:
        with safe_open(path, framework="numpy") as tensors:
            missing = sorted(needed - set(tensors.keys()))
    except (SafetensorError, OSError) as error:
        return [f"{path.name} cannot be read ({error}); fetch it again"]
    return [f"{path.name} has no tensor {', '.join(missing)}"] if missing else []


def _backbone(folder: Path, config: Mapping[str, Any]) -> Path:
    """Where the tokenizer of a checkpoint of the first layout is: in it, in its backbone's folder, or on the hub."""
    name = str(config.get("model_name", ""))
    if name and is_there(Path(name)) and Path(name).is_dir():
        return Path(name).resolve()
    if any((folder / file).is_file() for file in TOKENIZER_FILES):
        return folder
    if name.count("/") != 1:
        raise UserError(
            f"rank.model {folder} has no tokenizer ({' or '.join(TOKENIZER_FILES)}), and its model_name {name!r} is no "
            "folder here and no hub id; put the files of its tokenizer into the folder"
        )
    return download_model(name, f"rank.model {folder} has no tokenizer of its own, and its backbone", BACKBONE_FILES)


def _backbone_fingerprint(folder: Path) -> str:
    """Of what is used of a backbone: its tokenizer and shape, not its weights."""
    used = sorted({path for pattern in BACKBONE_FILES for path in folder.glob(pattern)})
    return fingerprint_files(folder, used)
