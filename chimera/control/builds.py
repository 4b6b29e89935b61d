"""Builds of the read models: which there are, planning and making one, comparing it, swapping it in, going back, dropping old ones.

The rule not to break: whatever readers would notice, or what drops something, first shows what would happen and asks. A build is
made by a process of its own (`chimera replay apply`), so this desk may end without ending it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chimera.commands.decision import Refused
from chimera.commands.keys import load_installation
from chimera.control.access import EVERY_TENANT, authorize
from chimera.control.accounts import Login
from chimera.control.place import Place, Row, address, number, route, words
from chimera.errors import ChimeraError
from chimera.projections.checkpoints import connect
from chimera.projections.parts import home_of
from chimera.projections.write import Connection
from chimera.replay import builds, survey
from chimera.replay.builds import Build
from chimera.replay.builds_follow import following
from chimera.replay.compare import Comparison, compare
from chimera.replay.plan import check, make_plan, size
from chimera.replay.survey import Where
from chimera.replay.swap import swap
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

T = TypeVar("T")
ASKED = {
    "apply": "Make it",
    "cancel": "Give it up",
    "swap": "Make it the live one",
    "rollback": "Go back to it",
    "drop": "Drop it",
    "pause": "Pause it",
}
"""What may be done with a build, and how the button says it."""
OF_STATE = {
    "planned": ("apply", "cancel"),
    "loading": ("apply", "pause", "cancel"),
    "indexing": ("apply", "pause", "cancel"),
    "ready": ("swap", "cancel"),
    "kept": ("rollback", "drop"),
}
LOG_FILE = "logs/replay-{}.log"


def routes(place: Place) -> list[Route]:
    """Their addresses."""
    return [
        route(place, "/builds", listed),
        route(place, "/builds/plan", plan, "POST"),
        route(place, "/builds/{build}/diff", diff),
        route(place, "/builds/{build}", change, "POST"),
    ]


async def listed(request: Request, login: Login, place: Place) -> Response:
    """All builds, and the last acts. Raises `Refused`."""
    found, acts = await _on(place, lambda where, connection: (_rows(where, connection), builds.acts(connection, most=15)))
    return place.page(
        "_builds.html" if request.headers.get("hx-target") == "builds" else "builds.html",
        login,
        builds=found,
        acts=acts,
        may=authorize(login.principal, "administer", EVERY_TENANT),
        asked=ASKED,
        of_state=OF_STATE,
        moving=any(row["working"] for row in found),
        done=request.query_params.get("done", ""),
    )


async def plan(request: Request, login: Login, place: Place) -> Response:
    """Plan a build of all read models: a number, and what it would read, take and need. Raises `Refused`."""
    if words(await request.form(), "change") != "plan":
        raise Refused("say what is to be done: plan")

    def make(where: Where, connection: Connection) -> int:
        facts = survey.facts(connection, where)
        made = make_plan(facts, survey.models())
        check(made, facts)
        build = builds.add(connection, made, survey.models())
        builds.note(connection, build.id, "plan", login.principal.name, "")
        return build.id

    return RedirectResponse(address("/builds", done=f"build {await _on(place, make)} is planned"), 303)


async def diff(request: Request, login: Login, place: Place) -> Response:
    """A build beside the live read models at the same offsets. Raises `Refused`."""
    build = number(request.path_params["build"], -1, least=0)

    def look(where: Where, connection: Connection) -> Comparison:
        found = builds.get(connection, build)
        if found.state not in ("ready", "kept"):
            raise Refused(f"build {build} is {found.state}: only one that is ready, or was live before, can be compared")
        return _compare(where, found)

    found = await _on(place, look)
    return place.page("build_diff.html", login, found=found)


async def change(request: Request, login: Login, place: Place) -> Response:
    """Do one of `ASKED`; shows what would happen first. Raises `Refused`."""
    form, by = await request.form(), login.principal.name
    build, what, reason = number(request.path_params["build"], -1, least=0), words(form, "change"), words(form, "reason")
    found = next((r for r in await _on(place, _rows) if r["build"].id == build), None)
    if found is None:
        raise LookupError(f"there is no build {build}")
    if what not in OF_STATE.get(found["build"].state, ()):
        raise Refused(f"build {build} is {found['build'].state}: nothing to {what or 'do'} there")
    if not reason:
        raise Refused(f"say why build {build} is to {what}: the reason is kept with it")
    if form.get("sure") != "yes" and what != "pause":
        compared = None
        if what in ("swap", "rollback"):
            compared = await _on(place, lambda where, _: _compare(where, found["build"]))
        return place.page("build_sure.html", login, row=found, what=what, words=ASKED[what], reason=reason, found=compared)
    told = await _on(place, lambda where, connection: _do(place, where, connection, found["build"], what, reason, by))
    return RedirectResponse(address("/builds", done=told), 303)


def _do(place: Place, where: Where, connection: Connection, build: Build, what: str, reason: str, by: str) -> str:
    """What was done, in words."""
    if what == "apply":
        _start(place, build.id, reason, by)
        return f"build {build.id} is being made; its log is {LOG_FILE.format(build.id)}"
    if what in ("swap", "rollback"):
        done = swap(where, build, actor=by, reason=reason, act=what, patience_s=15.0)
        return f"build {done.live} is live with {done.records:,} records; tables were locked for {done.locked_ms:.0f} ms"
    builds.note(connection, build.id, "gc" if what == "drop" else what, by, reason)
    if what != "drop" and build.id in builds.at_work(connection):
        builds.change(connection, build.id, wanted=what)
        return f"{what} of build {build.id} is asked for; its process obeys within a second"
    if what == "pause":
        return f"nobody works on build {build.id}"
    with builds.working(where.dsn, build.id) as database:
        database.do(lambda c: builds.drop_tables(c, build))
    return f"build {build.id} is dropped"


def _start(place: Place, build: int, reason: str, by: str) -> None:
    """`chimera replay apply` as a process of its own, which outlives this one."""
    argv = [sys.executable, "-m", "chimera.cli.main", "--home", str(place.home), "replay", "apply", str(build)]
    path = place.home / LOG_FILE.format(build)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        process = subprocess.Popen(
            [*argv, "--reason", reason, "--as", by, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with suppress(subprocess.TimeoutExpired):
        if process.wait(1.0):
            raise Refused(f"build {build} did not begin: {path.read_text(errors='replace').strip().splitlines()[-1:]}")


def _compare(where: Where, build: Build) -> Comparison:
    with builds.working(where.dsn, build.id), following(where, build) as follower:
        found = compare(follower, samples=3)
        follower.save()
        return found


def _rows(where: Where, connection: Connection) -> list[Row]:
    ends, busy, code = survey.ends(where), builds.at_work(connection), survey.models()
    return [_row(where, connection, b, ends, b.id in busy, code) for b in builds.listed(connection) if b.state != "dropped"]


def _row(where: Where, connection: Connection, build: Build, ends: Any, busy: bool, code: dict[str, str]) -> Row:
    written = survey.written(connection, where, build.schema) if build.state != "planned" else {}
    took = survey.size_of(connection, build.schema) + survey.size_of(connection, home_of(build.schema))
    return {
        "build": build,
        "working": busy,
        "behind": survey.behind(ends, written),
        "records": survey.total(written),
        "size": size(took),
        "plan": build.planned() if build.plan else None,
        "other_code": sorted(name for name, digest in code.items() if build.models and build.models.get(name) != digest),
    }


async def _on(place: Place, work: Callable[[Where, Connection], T]) -> T:
    """Work on the register of builds, in a thread. Raises `Refused`."""

    def do() -> T:
        settings = Settings(home=place.home)
        try:
            where = Where(load_kafka(settings), place.dsn, load_installation(settings.home).root_public)
            with connect(place.dsn) as connection:
                return work(where, connection)
        except Refused:
            raise
        except ChimeraError as error:
            raise Refused(str(error)) from error
        except psycopg.errors.LockNotAvailable as error:
            raise Refused(f"the tables are in use: {str(error).splitlines()[0]}; try again") from error

    return await asyncio.to_thread(do)
