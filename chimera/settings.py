"""One settings model for every process: environment, file, flags, in that order of strength below explicit arguments.

The rule not to break: a secret is a `SecretStr` and never reaches a log, an event or an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class Settings(BaseSettings):
    """Everything a Chimera process is told from outside.

    Read from `CHIMERA_*` environment variables first, then `chimera.toml` in the working directory, then the defaults.
    An address given here replaces the local stack's server of that kind.
    """

    model_config = SettingsConfigDict(env_prefix="CHIMERA_", toml_file="chimera.toml", extra="ignore")

    home: Path = Path(".chimera")
    """Directory of the local installation: data, logs, keys, addresses of running servers."""
    kafka: str | None = None
    """Bootstrap servers `host:port,...`; None means the local stack's broker."""
    postgres: str | None = None
    """libpq connection string; None means the local stack's PostgreSQL."""
    java: Path | None = None
    """Java binary for the local broker; None means the newest of the system's Java >= 17 or the packaged one."""
    x_url: str | None = None
    """Address of the X MCP server; None means the local sandbox."""
    feeds_url: str | None = None
    """Address of the feed reader MCP server; None means the local one."""
    writer_url: str | None = None
    """Address of the text writer MCP server; None means the local one."""
    mcp: dict[str, str] = {}
    """Addresses of further MCP servers by name (`{"ideogram": "http://..."}`), each instead of the local sandbox of that name."""
    providers: dict[str, str] = {}
    """Which profile serves a family of capabilities (`{"image": "midjourney"}`); the rest by `chimera.mcp.profiles.PROVIDERS`."""
    gates: dict[str, list[str]] = {}
    """Gates as processes of their own, by the classes of effects that each makes, each with its own credentials only:
    `{"social": ["publish", "paid"], "wallet": ["financial"]}`; empty: one gate makes all."""
    media: str | None = None
    """Where the media store is: `s3://bucket/prefix` or `gs://bucket/prefix` (credentials by the vendors' own variables), or a
    directory; None: the folder `media` of the home."""
    media_keep: dict[str, int] = {}
    """Days that files of a role are kept once nothing open or standing needs them (`{"render": 90, "source": 90}`); a role that is
    not named is kept for ever. `chimera media gc` lets go."""
    media_url: str | None = None
    """Public address under which the files of the media store are fetched, for live platforms that fetch; None: they cannot."""
    control_media_url: str | None = None
    """Origin under which browsers reach Mission Control's media where the desk is reached from elsewhere (`https://media.example.org`):
    another name than the desk's, led to the port in `control/media-port` of the home; None: `http://localhost` and that port."""
    profiles: Path | None = None
    """Directory of MCP profiles (and their pins) to use instead of the packaged ones; None means these."""
    sandbox_pace: float = Field(default=1.0, ge=0, le=100_000)
    """Seconds that the audience of the sandbox platforms lives in one: 1 as in life, 3600 an hour a second, 0: nobody is there."""
    llm_url: str | None = None
    """Base address of any OpenAI-compatible endpoint (`.../v1`); None means the offline writer."""
    llm_key: SecretStr | None = None
    llm_model: str = "gpt-4o-mini"
    command_listen: str | None = None
    """`host:port` on which the command service also listens, for those who hold a token (`home/keys/tokens`); None: not."""
    call_timeout_s: float = Field(default=20.0, gt=0)
    """How long a call that acts outside may take; without an answer by then its end is unknown."""
    claim_lease_s: float = Field(default=60.0, gt=0, le=86_400)
    """How long a claimed effect belongs to its gate; longer than a call may take. Stated in the claim, so gates may differ."""
    observe_first_s: float = Field(default=60.0, gt=0, le=86_400)
    """Seconds from a post to the first look at its numbers; every later one when it is a quarter older than at the last."""
    memory: Literal["postgres", "weaviate", "off"] = "postgres"
    """Where notes lie that agents recall: in PostgreSQL (pgvector), in Weaviate, or nowhere."""
    weaviate: str | None = None
    """Address of a Weaviate, `http(s)://host:port`; None means the local stack's (`chimera stack add weaviate`)."""
    weaviate_grpc: str | None = None
    """Its gRPC address, `host:port`; None means port 50051 of the same host."""
    weaviate_key_file: Path | None = None
    """File that holds its API key."""
    embedding: Literal["minilm", "endpoint", "hashed"] = "minilm"
    """What makes vectors of notes: minilm (the extra `memory`), an endpoint (below), or hashed, which finds no paraphrase and is
    for plumbing tests."""
    embedding_url: str | None = None
    """Base address of any OpenAI-compatible endpoint (`.../v1`) that answers `/embeddings`."""
    embedding_key: SecretStr | None = None
    embedding_model: str = "text-embedding-3-small"
    cache: str | None = None
    """Address of a Valkey or Redis where episodes lie (an agent's last events and notes, the words of threads): `redis://host:port/0`,
    `rediss://` for TLS; `off`: nowhere; None: the local stack's, which runs where the extra `cache` is installed."""
    cache_key_file: Path | None = None
    """File that holds its password."""
    cache_last: int = Field(default=50, ge=1, le=1_000)
    """How many events and how many notes of an agent, and words of a thread, are kept."""
    cache_days: float = Field(default=7.0, gt=0, le=3_650)
    """How long they are kept."""
    actor: str = "operator"
    """Who gives commands from this shell (recorded as `ce_actor`)."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
