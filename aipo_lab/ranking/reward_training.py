"""How a reward model is trained before it ranks: on which pairs, whose labels, and how carefully."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from aipo_lab.core.choice import chosen_settings
from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.paths import is_there
from aipo_lab.ranking.proxy import ProxyRankerSettings
from aipo_lab.ranking.ranker import RANKERS, RankerResources, RankerSettings, no_resources
from aipo_lab.training.reward import RewardTrainSettings


class RewardTrainingSettings(RewardTrainSettings):
    """A Bradley-Terry head on the base model theta_0, trained on pairs."""

    pairs: Literal["first", "current", "file"] = Field(
        "first",
        description="trained on the responses of theta_0, once (first), of theta_t, anew in every iteration (current), "
        "or on a file of pairs (file)",
    )
    path: str | None = Field(None, description="pairs: file: JSON lines with prompt, chosen and rejected as messages")
    labels: SerializeAsAny[RankerSettings] = Field(
        default_factory=lambda: ProxyRankerSettings(length_bias=0.0, noise_sd=0.0),
        description="the ranker that says which response of a pair is better, unless a file does; by default the truth "
        "of the world",
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _chosen(cls, section: object) -> object:
        return chosen_settings(RANKERS, "ranker", "proxy")(section)

    @model_validator(mode="after")
    def _agree(self) -> RewardTrainingSettings:
        if (self.pairs == "file") != (self.path is not None):
            raise ValueError("path is the file of pairs: file, and that needs one; set both or neither")
        definition = RANKERS.get(self.labels.ranker)
        if definition.resources is not no_resources or self.labels.asks_policy() or self.labels.asked_judge():
            raise ValueError(
                f"labels.ranker {self.labels.ranker} reads or asks a model, which labels cannot; rank with it in a run "
                "of its own, export the pairs, and give them as a file (pairs: file)"
            )
        return self

    def trainer_values(self) -> dict[str, Any]:
        """The settings of the training itself, without where pairs come from."""
        return self.model_dump(mode="json", include=set(RewardTrainSettings.model_fields))

    def resources(self) -> RankerResources:
        """The file of pairs, by its content; raises `UserError` if it is not there."""
        if self.path is None:
            return RankerResources()
        path = Path(self.path).expanduser()
        if not is_there(path) or not path.is_file():
            raise UserError(f"rank.train.path {self.path!r} is no file (looked for {path.absolute()})")
        return RankerResources({"pairs": sha256_of(path)}, {"pairs": str(path.absolute())})
