"""Feed files that a brief names: the installation keeps its own copy, content-addressed, and the feed reader reads nothing else.

The rule not to break: what a campaign was started on can be read again later, whatever happens to the user's file.
"""

from __future__ import annotations

from pathlib import Path

from chimera.errors import ChimeraError
from chimera.events.hashes import sha256
from chimera.policy.brief import Brief, is_address

LARGEST_FEED = 2 * 1024 * 1024


def keep_feeds(brief: Brief, home: Path) -> Brief:
    """The brief with each feed file replaced by the installation's copy; addresses stay.

    Raises:
        ChimeraError: a file cannot be read, or is larger than the feed reader takes.
    """
    return brief.model_copy(update={"feeds": [feed if is_address(feed) else str(_keep(Path(feed), home)) for feed in brief.feeds]})


def _keep(feed: Path, home: Path) -> Path:
    try:
        content = feed.read_bytes()
    except OSError as error:
        raise ChimeraError(f"feed '{feed}' cannot be read ({error.strerror}): correct its path in the brief") from error
    if len(content) > LARGEST_FEED:
        raise ChimeraError(f"feed '{feed}' is larger than {LARGEST_FEED // 1024 // 1024} MB: cut it down")
    kept = (home / "mcp" / "feeds" / f"{sha256(content)[:12]}-{feed.name}").resolve()
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(kept)
    return kept
