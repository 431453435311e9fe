from __future__ import annotations

from pathlib import Path

import pytest

from aipo_lab.core.config import validate
from aipo_lab.core.errors import UserError
from aipo_lab.judging.opening import open_judge
from aipo_lab.judging.settings import JudgeSettings


def test_the_identity_is_what_determines_replies_and_nothing_else() -> None:
    plain = JudgeSettings(model="gpt-4")
    faster = JudgeSettings(
        model="gpt-4",
        base_url="https://elsewhere.example/v1",
        api_key_variable="OTHER",
        concurrency=64,
        requests_per_minute=10,
        tokens_per_minute=10,
        timeout_s=1,
        attempts=1,
        backoff_s=9,
        deadline_s=1,
        max_cost_usd=3,
        prices={"gpt-4": {"input": 1, "output": 2}},
    )
    assert plain.identity() == faster.identity() == {"engine": "openai", "model": "gpt-4", "label": ""}
    others = [
        JudgeSettings(model="gpt-4o"),
        JudgeSettings(model="gpt-4", label="second server"),
        JudgeSettings(model="gpt-4", engine="azure"),
    ]
    assert len({str(settings.identity()) for settings in [plain, *others]}) == 4


def test_the_model_comes_from_the_environment_if_not_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert JudgeSettings().model == "gpt-4-1106-preview"
    monkeypatch.setenv("AIPO_LAB_JUDGE_MODEL", "gpt-4o")
    assert JudgeSettings().model == "gpt-4o"
    assert JudgeSettings(model="gpt-4").model == "gpt-4"


def test_the_server_comes_from_the_environment_if_not_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from aipo_lab.judging.endpoint import find_endpoint

    assert find_endpoint(JudgeSettings()).url == "https://api.openai.com/v1/chat/completions"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://judge.example:8000/v1/")
    assert find_endpoint(JudgeSettings()).url == "http://judge.example:8000/v1/chat/completions"
    assert find_endpoint(JudgeSettings(base_url="http://a/v1")).url == "http://a/v1/chat/completions"


def test_all_mistakes_are_named_at_once() -> None:
    values = {"engine": "vllm", "concurrency": 0, "attempts": 0, "timeout": 3, "api_key_variable": "sk-12 34"}
    with pytest.raises(UserError) as raised:
        validate(JudgeSettings, values, "judge")
    for name in ("engine", "concurrency", "attempts", "timeout_s", "api_key_variable"):
        assert name in str(raised.value)


def test_a_local_judge_without_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a model folder"):
        open_judge(JudgeSettings(engine="local", model=str(tmp_path)), tmp_path / "calls")


def test_an_unwritable_store_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--store"):
        open_judge(JudgeSettings(model="gpt-4"), tmp_path / "file" / "calls")


def test_every_setting_is_described() -> None:
    assert all(field.description for field in JudgeSettings.model_fields.values())
