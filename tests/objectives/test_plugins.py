"""Objectives of other packages: found by entry point, loaded when asked for, clear about what is broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from aipo_lab.core.errors import UserError
from aipo_lab.objectives import OBJECTIVES, Hyperparameter, get_definition, get_objective, objective_names, register
from aipo_lab.pipeline.recipe import ObjectiveConfig

LOSS = '''
from aipo_lab.objectives import BETA, register


@register("half_dpo", beta=BETA)
def half_dpo(logps, *, beta):
    """Half of a margin."""
    return beta * (logps.s_theta - logps.s_ref) / 2
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make a package importable and visible to importlib.metadata; all of it is gone after the test."""
    imported = set(sys.modules)

    def add(package: str, source: str, **entry_points: str) -> None:
        folder = tmp_path / package
        metadata = folder / f"{package}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{package}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[aipo_lab.objectives]", *lines, ""]))
        monkeypatch.syspath_prepend(folder)

    with OBJECTIVES.restored():
        yield add
    for name in set(sys.modules) - imported:
        del sys.modules[name]


@pytest.mark.parametrize("value", ["fake_losses:half_dpo", "fake_losses"])
def test_a_plugin_is_listed_last_and_loaded_when_asked_for(install: Install, value: str) -> None:
    built_in = objective_names()
    install("fake_losses", LOSS, half_dpo=value)
    assert objective_names() == [*built_in, "half_dpo"]
    assert "fake_losses" not in sys.modules
    one = [torch.tensor([number]) for number in (-1.0, -2.0, -2.0, -1.0, 3.0, 4.0)]
    assert get_objective("half_dpo", beta=0.5)(*one).item() == 0.5
    assert objective_names() == [*built_in, "half_dpo"]


def test_a_plugin_is_checked_in_recipes_like_any_objective(install: Install) -> None:
    install("fake_losses", LOSS, half_dpo="fake_losses:half_dpo")
    assert ObjectiveConfig(name="half_dpo", beta=0.3).at(0).hyperparameters == {"beta": 0.3}
    with pytest.raises(ValueError, match="unknown hyperparameter 'alpha' of half_dpo"):
        ObjectiveConfig(name="half_dpo", alpha=0.3)


def test_an_unknown_name_lists_plugins_too(install: Install) -> None:
    install("fake_losses", LOSS, half_dpo="fake_losses:half_dpo")
    with pytest.raises(UserError, match=r"unknown objective 'half_dpoo'; did you mean 'half_dpo'\?.*, half_dpo$"):
        get_objective("half_dpoo")


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("import no_such_package", "broken_losses", "ModuleNotFoundError: No module named 'no_such_package'"),
        (LOSS, "broken_losses:no_such_loss", "AttributeError.*no_such_loss"),
        (LOSS.replace('"half_dpo"', '"dpo"'), "broken_losses", "UserError: objective 'dpo' is already registered"),
        (LOSS.replace("beta=BETA", "eta=BETA"), "broken_losses", "eta must be among .*beta, alpha, gamma"),
        (LOSS + "\nraise RuntimeError('late')", "broken_losses", "RuntimeError: late"),
    ],
)
def test_a_broken_plugin_is_named_and_disturbs_nobody_else(
    install: Install, source: str, value: str, reason: str
) -> None:
    built_in = OBJECTIVES.working()
    install("broken_losses", source, half_dpo=value)
    assert get_objective("dpo").name == "dpo"
    assert "half_dpo" in objective_names()
    for _ in range(2):  # a second try must not find what a half-loaded plug-in left behind
        with pytest.raises(UserError, match=f"package broken_losses 1.0 .*{reason}.*repair or uninstall broken_losses"):
            get_objective("half_dpo")
    assert built_in == OBJECTIVES.working()


def test_a_plugin_that_registers_another_name_says_so(install: Install) -> None:
    install("fake_losses", LOSS, third_dpo="fake_losses")
    with pytest.raises(UserError, match=r"package fake_losses 1.0 .*no objective of that name.*docs/extending.md"):
        get_objective("third_dpo")


def test_two_packages_with_the_same_name_are_both_named(install: Install) -> None:
    install("fake_losses", LOSS, half_dpo="fake_losses")
    install("other_losses", LOSS, half_dpo="other_losses")
    assert objective_names().count("half_dpo") == 1
    with pytest.raises(UserError, match=r"offered by fake_losses 1.0 and other_losses 1.0; uninstall all but one"):
        get_objective("half_dpo")


def test_a_plugin_cannot_take_the_name_of_a_built_in_objective(install: Install) -> None:
    built_in = objective_names()
    install("fake_losses", "raise RuntimeError('imported')", dpo="fake_losses")
    assert get_objective("dpo").definition is OBJECTIVES.get("dpo")
    assert objective_names() == built_in


def test_registering_refuses_taken_names_and_unknown_hyperparameters(install: Install) -> None:
    with pytest.raises(UserError, match="'dpo' is already registered"):
        register("dpo", beta=Hyperparameter(0.1, "strength"))(lambda logps, beta: logps.s_theta)
    with pytest.raises(UserError, match="eta must be among the names recipes know: beta, alpha, gamma, lambda_"):
        register("other", eta=Hyperparameter(0.1, "strength"))(lambda logps, eta: logps.s_theta)
    assert "other" not in objective_names()


def test_importing_and_resolving_built_in_objectives_loads_no_heavy_package() -> None:
    code = (
        "import sys; from aipo_lab.objectives import get_objective, objective_names; objective_names();"
        "[get_objective(name) for name in objective_names()]; print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_registration_says_is_what_is_known_of_the_objective() -> None:
    def loss(logps: object) -> torch.Tensor:
        return torch.zeros(1)

    needs = {
        "reference_free": True,
        "length_normalised": True,
        "needs_win_rates": True,
        "nll_weight": 0.5,
        "across_pairs": True,
        "needs_tails": True,
        "needs_policy_weights": True,
        "version": 3,
    }
    with OBJECTIVES.restored():
        register("plain")(loss)
        register("needy", **needs)(loss)  # type: ignore[arg-type]
        for name, value in needs.items():
            plain, needy = getattr(get_definition("plain"), name), getattr(get_definition("needy"), name)
            assert needy == value, name
            assert plain == {"nll_weight": None, "version": 1}.get(name, False), name
