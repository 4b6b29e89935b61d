"""The table of Chimera's own processes: the sandbox MCP servers, and brain, gate and projector.

The rule not to break: a process learns where the others are from `chimera.stack.addresses`, never from its command line; so a
row holds a role and a directory, and no secret.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chimera.errors import ChimeraError
from chimera.settings import Settings
from chimera.stack.addresses import control_url
from chimera.stack.supervisor import Child, Ready, Window

SANDBOX = ("x", "feeds", "writer", "vendors")
"""Processes of MCP servers that run locally unless the settings name others; `vendors` is one process for `VENDORS`."""
EMBEDDINGS = "embeddings"
"""Another one, where the settings say that an endpoint embeds."""

MODEL_KEYS = {"CHIMERA_LLM_KEY": "writer", "CHIMERA_EMBEDDING_KEY": EMBEDDINGS}
"""Keys of models, and the one process that each is given to."""

VENDORS = ("ideogram", "midjourney", "runway", "luma", "instagram", "brave", "tavily")
"""Foreign servers that the process `vendors` can play."""

SERVERS = (*SANDBOX[:-1], *VENDORS)
"""Every MCP server of the local stack, by name."""

ROLES = ("command", "brain", "gate", "projector", "control")
"""Processes that `chimera run NAME` runs (design sections 6, 10 and 11)."""
NOTARY = "notary"
"""Signs what the log holds, beside them (design section 13). Nothing waits for it."""


READY_TIMEOUT_S = 600.0
"""The command service folds the whole log before it opens its door."""

LEAN = {"MALLOC_ARENA_MAX": "2"}
"""Environment of role processes: Kafka's client has many threads, and a heap for each would hold 10 to 20 MB that nobody uses."""


@dataclass(frozen=True)
class Sandbox:
    """A local MCP server: its URL and its row."""

    url: str
    child: Child


def vendors_of(settings: Settings) -> tuple[str, ...]:
    """The foreign servers that are played: those of chosen providers and of platforms, unless they are elsewhere."""
    from chimera.mcp.profiles import PROVIDERS  # here: every verb of the command line imports this module

    chosen = {**PROVIDERS, **settings.providers}.values()
    return tuple(name for name in VENDORS if (name in chosen or name == "instagram") and name not in settings.mcp)


def sandbox_server(name: str, data: Path, port: int, env: Mapping[str, str], more: Sequence[str] = ()) -> Sandbox:
    """The row of one sandbox process; `data` is the directory of its durable state, `more` its further arguments."""
    base = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", f"chimera.mcp.sandbox.{name}", "--port", str(port), "--data", str(data), *more]
    return Sandbox(f"{base}/mcp", Child(name=name, argv=argv, env=env, ready=f"{base}/healthz", ready_timeout_s=30))


def kept_back(name: str, settings: Settings, gate: str | None = None) -> tuple[str, ...]:
    """The credentials in this environment that the process `name` does not need, and so is not given; `gate`: which gate it is.

    Raises ChimeraError for gates or profiles that cannot be used.
    """
    from chimera.mcp.opens import gate_effects, opens, reads_only_or_more, withheld  # here: see `vendors_of`
    from chimera.mcp.profiles import PROFILES_DIR, read_profile
    from chimera.mcp.spec import ProfileError

    try:
        profiles = [read_profile(path) for path in sorted((settings.profiles or PROFILES_DIR).glob("*.yaml"))]
    except ProfileError as error:
        raise ChimeraError(str(error)) from error
    if name.startswith("gate"):
        effects = gate_effects(settings.gates, gate)
        opened = [profile for profile in profiles if opens(profile, effects)]
    else:
        opened = [profile for profile in profiles if reads_only_or_more(profile)] if name == "brain" else []
    closed = [profile for profile in profiles if profile not in opened]
    models = [variable for variable, holder in MODEL_KEYS.items() if variable in os.environ and name != holder]
    return (*withheld(os.environ, closed, opened), *models)


def role_process(role: str, env: Mapping[str, str], after: Sequence[str], gate: str | None = None) -> Child:
    """The row of one role set, started when all of `after` are ready; `gate`: which of several gates it is.

    It is ready when its window answers: past everything for which it refuses to start, and, unless that takes longer than a minute,
    on its way through the log. `env` names its home.
    """
    argv = [sys.executable, "-m", "chimera.cli.main", "run", role]
    name = role if gate is None else f"{role}-{gate}"
    argv += [] if gate is None else ["--gate", gate]
    if role in ("brain", "gate"):
        argv += ["--instance", f"{name}-1"]  # a seat that outlives the process: a short restart moves no partition
    if role == "command":
        after = [name for name in after if name == "kafka"]  # commands must work while everything else is down
    home = Path(env["CHIMERA_HOME"])
    ready: Ready = f"{control_url(home)}/healthz" if role == "control" else Window(home, role)
    return Child(
        name=name,
        argv=argv,
        env={**LEAN, **env},
        after=tuple(after),
        ready=ready,
        ready_timeout_s=READY_TIMEOUT_S,
        stop_timeout_s=15,
    )


def environment(settings: Settings, home: Path) -> dict[str, str]:
    """What a process must be told so that it reads the same settings as this one, wherever these came from.

    Secrets are not here: a child inherits them from the environment or reads them from the same file.
    """
    told = {"CHIMERA_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    if settings.kafka is not None:
        told["CHIMERA_KAFKA"] = settings.kafka
    if settings.postgres is not None:
        told["CHIMERA_POSTGRES"] = settings.postgres
    told["CHIMERA_MEMORY"], told["CHIMERA_EMBEDDING"] = settings.memory, settings.embedding
    told["CHIMERA_EMBEDDING_MODEL"] = settings.embedding_model
    named = {
        "WEAVIATE": settings.weaviate,
        "WEAVIATE_GRPC": settings.weaviate_grpc,
        "WEAVIATE_KEY_FILE": settings.weaviate_key_file,
        "EMBEDDING_URL": settings.embedding_url,
        "CACHE": settings.cache,
        "CACHE_KEY_FILE": settings.cache_key_file,
        "CACHE_LAST": settings.cache_last,
        "CACHE_DAYS": settings.cache_days,
    }
    told |= {f"CHIMERA_{name}": str(value) for name, value in named.items() if value is not None}
    told["CHIMERA_CALL_TIMEOUT_S"] = str(settings.call_timeout_s)
    told["CHIMERA_SANDBOX_PACE"] = str(settings.sandbox_pace)
    told["CHIMERA_CLAIM_LEASE_S"] = str(settings.claim_lease_s)
    tables = (("CHIMERA_PROVIDERS", settings.providers), ("CHIMERA_MCP", settings.mcp), ("CHIMERA_GATES", settings.gates))
    for name, table in tables:
        if table:
            told[name] = json.dumps(table)
    if settings.media is not None:
        told["CHIMERA_MEDIA"] = settings.media if "://" in settings.media else str(Path(settings.media).resolve())
    if settings.media_url is not None:
        told["CHIMERA_MEDIA_URL"] = settings.media_url
    if settings.control_media_url is not None:
        told["CHIMERA_CONTROL_MEDIA_URL"] = settings.control_media_url
    if settings.profiles is not None:
        told["CHIMERA_PROFILES"] = str(settings.profiles.resolve())
    return told
