"""Exports of a model: an ordinary Hugging Face folder with the model's files and a card of how it was made.

Weights are copied byte for byte. The chat template is the one the model was spoken to with, and
`generation_config.json` has every token that ended a response: without them it would be another model to talk to.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aipo_lab.core.jsonl import read_json, write_json
from aipo_lab.models.fingerprint import counted_files
from aipo_lab.models.policy import Policy, load_tokenizer
from aipo_lab.models.template import NAMED_TEMPLATES
from aipo_lab.sweeps.export_folder import new_folder
from aipo_lab.sweeps.licence import licence_files
from aipo_lab.sweeps.model_card import write_model_card
from aipo_lab.sweeps.points import Point

TEMPLATE_FILE = "chat_template.jinja"


def export_model(point: Point, target: Path, force: bool = False) -> Path:
    """Write the point's model to the folder `target`; see `new_folder` for `force` and errors."""
    source = point.model_folder()
    sources = [point.store.root, point.folder.path, source]
    with new_folder(target, force, sources) as folder:
        for path in counted_files(source):
            _copy(path, folder / path.relative_to(source))
        for path in licence_files(point):
            _copy(path, folder / path.name)
        _set_template(folder, point.trial.recipe.model.chat_template)
        _set_end_tokens(folder)
        write_model_card(folder, point)
    return target


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, target)


def _set_template(folder: Path, template: str | None) -> None:
    """Make `template`, if the recipe has one, the folder's own, and the only one."""
    if template is None:
        return
    for path in [folder / "chat_template.json", *(folder / "additional_chat_templates").glob("*")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)
    settings = folder / "tokenizer_config.json"
    if settings.is_file() and "chat_template" in (values := read_json(settings)):
        write_json(settings, {name: value for name, value in values.items() if name != "chat_template"})
    (folder / TEMPLATE_FILE).write_text(NAMED_TEMPLATES.get(template, template), encoding="utf-8")


def _set_end_tokens(folder: Path) -> None:
    """Let `generation_config.json` name all tokens that end a response in the lab; a complete file stays as it is."""
    ends = sorted(_without_weights(folder).end_token_ids)
    path = folder / "generation_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    declared = settings.get("eos_token_id")
    if sorted(declared if isinstance(declared, list) else [declared] if declared is not None else []) != ends:
        write_json(path, {**settings, "eos_token_id": ends[0] if len(ends) == 1 else ends})


def _without_weights(folder: Path) -> Policy:
    """The policy of a folder with its weights left on the disk: enough to ask for its tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return Policy(model, load_tokenizer(folder))
