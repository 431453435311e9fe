"""The settings of whatever is a server: where it is, how carefully it is called and what it may cost."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from aipo_lab.core.config import StrictModel
from aipo_lab.judging.money import Price


class ServerSettings(StrictModel):
    """How a server is called; `who`, `work` and `limit_setting` are what messages call it, its work and its limit."""

    who: ClassVar[str] = "server"
    work: ClassVar[str] = "work"
    limit_setting: ClassVar[str] = "max_cost_usd"

    model: str = Field(min_length=1, description="the model's name at the server")
    base_url: str | None = Field(
        None, description="server; default: $OPENAI_BASE_URL, else OpenAI's; for azure $AZURE_OPENAI_ENDPOINT"
    )
    api_key_variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the key; default OPENAI_API_KEY, for azure AZURE_OPENAI_API_KEY",
    )
    concurrency: int = Field(16, ge=1, le=256, description="calls under way at once; for local: prompts per batch")
    requests_per_minute: float | None = Field(None, gt=0, description="most calls started per minute (none: unlimited)")
    tokens_per_minute: float | None = Field(
        None, gt=0, description="most tokens per minute, prompts (estimated) and caps of replies together"
    )
    timeout_s: float = Field(180, gt=0, description="seconds until a call counts as lost")
    attempts: int = Field(6, ge=1, description="times a call is tried before it is left unanswered")
    backoff_s: float = Field(1.0, gt=0, description="longest first wait between tries in seconds; doubles with each")
    deadline_s: float | None = Field(
        None, gt=0, description="seconds after which no more calls are started (none: no deadline)"
    )
    max_cost_usd: float | None = Field(None, ge=0, description="most this run may spend in USD (none: no limit)")
    prices: dict[str, Price] = Field(
        default_factory=dict, description="prices by model name, over the built-in table; USD per million tokens"
    )

    @property
    def is_azure(self) -> bool:
        """Whether the server is Azure's, with addresses and headers of its own."""
        return False

    @property
    def served_model(self) -> str:
        """What the server calls the model."""
        return self.model
