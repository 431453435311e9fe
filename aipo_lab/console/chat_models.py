"""The models that `aipo-lab chat` talks to: found by what a person calls them, and loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from aipo_lab.core.config import StrictModel, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.paths import is_there
from aipo_lab.models.policy import Policy, load_policy
from aipo_lab.models.template import ChatSettings, TemplateText, check_has_template
from aipo_lab.pipeline.base_model import find_base_model
from aipo_lab.sweeps.points import find_point, parse_point


@dataclass(frozen=True)
class ChatModel:
    """A model on this machine and how it is spoken to."""

    name: str
    folder: Path
    chat: ChatSettings

    def load(self, device: str, dtype: str) -> Policy:
        """The model in memory; raises `UserError` for a device that torch does not have here."""
        import torch

        try:
            torch.empty(0, device=torch.device(device))
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--device {device}: torch cannot use it here ({reason}); try --device cpu") from None
        return load_policy(self.folder, device, dtype)


class _Template(StrictModel):
    template: TemplateText = Field(None, alias="--chat-template", description="as model.chat_template of a recipe")


def find_chat_models(
    names: Sequence[str], template: str | None, sweep_folder: Callable[[], Path], store_root: Path | None
) -> list[ChatModel]:
    """One or two models; see `find_chat_model`. `template` may be the path of its file."""
    if len(names) > 2:
        raise UserError(f"{len(names)} models are given; chat talks to one, or to two side by side")
    text = validate(_Template, {"--chat-template": template}, "the command").template
    return [find_chat_model(name, text, sweep_folder, store_root) for name in names]


def find_chat_model(
    name: str, template: str | None, sweep_folder: Callable[[], Path], store_root: Path | None
) -> ChatModel:
    """The model called `name`: a folder, TRIAL@ITERATION of the sweep in `sweep_folder`, an asset or a hub id.

    `template` takes the place of the one that the model was trained with, or of its own. Raises `UserError`.
    """
    if parse_point(name) is not None and not is_there(Path(name)):
        point = find_point(name, sweep_folder(), store_root)
        recipe_chat = point.trial.recipe.model.chat()
        chat = recipe_chat if template is None else recipe_chat.model_copy(update={"template": template})
        return ChatModel(point.name, point.model_folder(), chat)
    folder = find_base_model(name).folder
    if folder is None:
        raise UserError("the micro world's model is trained by a sweep; talk to one of its trials: TRIAL@0")
    chat = ChatSettings(template=template)
    check_has_template(folder, chat, "--chat-template")
    return ChatModel(name, folder, chat)
