"""A section of a recipe that chooses one registered thing by name and holds that thing's own settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from aipo_lab.core.config import StrictModel, problem_text
from aipo_lab.core.errors import UserError
from aipo_lab.core.registry import Registry

Settings = TypeVar("Settings", bound=StrictModel)


def chosen_settings(registry: Registry[Any], key: str, default: str) -> Callable[[object], StrictModel]:
    """A validator: a section becomes the settings of what its `key` names (`default` without one).

    Raises `ValueError` listing the registered names, and `ValidationError` for what the settings class refuses.
    """

    def choose(section: object) -> StrictModel:
        if isinstance(section, StrictModel):
            return section
        if not isinstance(section, Mapping):
            raise ValueError(f"must be a section with the key {key!r}, one of {', '.join(registry.names())}")
        name = section.get(key, default)
        try:
            settings: type[StrictModel] = registry.get(str(name)).settings
        except UserError as error:
            raise ValidationError.from_exception_data(registry.kind, [problem(str(error), key, given=name)]) from None
        return checked(settings, section)

    return choose


def checked(model: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build `model` inside another model's validation: every problem keeps its place and gets our words."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValidationError.from_exception_data(model.__name__, located(model, error)) from None


def located(model: type[StrictModel], error: ValidationError, *place: str) -> list[InitErrorDetails]:
    """The problems that pydantic found in `model`, below `place`, in our words."""
    return [
        problem(problem_text(model, detail), *place, *detail["loc"], given=detail.get("input"))
        for detail in error.errors()
    ]


def problem(text: str, *place: str | int, given: object = None) -> InitErrorDetails:
    """A problem in words of its own, for `ValidationError.from_exception_data`."""
    return InitErrorDetails(type=PydanticCustomError("chosen", "{text}", {"text": text}), loc=place, input=given)
