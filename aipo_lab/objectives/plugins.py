"""Objectives of other packages, found through entry points of the group `aipo_lab.objectives`.

The entry point's name is the objective's name; its value is a loss decorated with `@register` under that name
(`my_package.losses:my_loss`), or the module that holds it. In the other package's pyproject.toml:

    [project.entry-points."aipo_lab.objectives"]
    my_loss = "my_package.losses:my_loss"

Listing names imports nothing; a package is imported when one of its objectives is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from aipo_lab.core.errors import UserError
from aipo_lab.objectives.definition import REGISTRY

GROUP = "aipo_lab.objectives"


def plugin_names() -> list[str]:
    """The names of the objectives that installed packages offer, sorted."""
    return sorted(entry_points(group=GROUP).names)


def load_plugin(name: str) -> bool:
    """Register the plug-in objective `name`; False if no package offers it.

    Raises `UserError` naming the package if it cannot be imported or does not register the objective, or the
    packages if several offer the name.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return False
    if len(found) > 1:
        packages = " and ".join(sorted(_package(one) for one in found))
        raise UserError(f"objective {name!r} is offered by {packages}; uninstall all but one of them")
    package = _package(found[0])
    before = set(REGISTRY)
    try:
        found[0].load()
    except Exception as error:  # whatever another package's import can raise
        for added in set(REGISTRY) - before:
            del REGISTRY[added]
        raise UserError(
            f"objective {name!r}: the package {package} offers it as {found[0].value}, which cannot be loaded "
            f"({type(error).__name__}: {error}); repair or uninstall {package}"
        ) from error
    if name not in REGISTRY:
        raise UserError(
            f"objective {name!r}: the package {package} offers it as {found[0].value}, which registers no objective "
            f'of that name; it needs @register("{name}", …) from aipo_lab.objectives'
        )
    return True


def _package(entry_point: EntryPoint) -> str:
    """Name and version of the package that declares the entry point."""
    distribution = entry_point.dist
    return f"{distribution.name} {distribution.version}" if distribution else entry_point.value
