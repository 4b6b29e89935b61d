"""`chimera keys`: the installation's keys and the law adopted under them.

The rule not to break: private keys are never shown. Exit codes: 0 done, 1 failure, 2 usage.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chimera.cli import noting, output
from chimera.cli.folding import open_desk, open_service
from chimera.cli.options import JsonOption, YesOption
from chimera.commands import verbs
from chimera.commands.keys import SIGNING_ROLES, RoleKeys, ensure_installation, load_keys, log_topics
from chimera.commands.rotation import Rotated, drop, harden, rotate, soften
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

SigningRole = Annotated[str, typer.Argument(metavar="ROLE", help="judge, executor or courier.")]

app = typer.Typer(no_args_is_help=True, help="Keys that sign commands, and the law adopted under them.")


@app.command()
def init() -> None:
    """Make the keys where there are none, and adopt the law in every partition that has none. Repeating it is harmless."""
    settings = Settings()
    with Appender(load_kafka(settings), log_topics(), "chimera-installer") as appender:
        keys = ensure_installation(settings, appender)
    output.console().print(f"installation {keys.installation.installation}: root key {keys.root.id}, command key {keys.command.id}")


@app.command("list")
def list_keys(as_json: JsonOption = False) -> None:
    """The key files (public halves), and the editions of the law in force with the keys that each lists."""
    settings = Settings()
    keys = load_keys(settings.home)
    files = {"root": keys.root, "command": keys.command} | RoleKeys(settings.home, SIGNING_ROLES).held
    try:
        with open_desk(settings) as desk:
            editions: list[dict[str, Any]] = desk.ask(verbs.LawShow())["editions"]
            unknown = ""
    except ChimeraError as error:  # the files can be told without the log
        editions, unknown = [], str(error)
    if as_json:
        shown: dict[str, object] = {role: {"id": key.id, "public": key.public} for role, key in files.items()}
        output.print_json(shown | {"editions": editions} | ({"editions_unknown": unknown} if unknown else {}))
        return
    out = output.console()
    for role, key in files.items():
        out.print(f"{role:8} {key.id}  {key.public}")
    if unknown:
        output.console(stderr=True).print(f"the editions in force are not known: {unknown}", style="yellow", markup=False)
        return
    cells = [
        (f"edition {row['edition']}", row["law"], role, _listed(ids), _partitions(row["partitions"]))
        for row in editions
        for role, ids in row["keys"].items()
    ]
    out.print(output.table("law in force", ("edition", "law", "role", "keys", "partitions"), cells))


@app.command("rotate")
def rotate_(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="command; judge, executor or courier where they sign.")],
    as_json: JsonOption = False,
) -> None:
    """Make a new key and let it sign; running processes need no restart. The old one counts too, until `chimera keys drop`."""
    _one_of(role, ("command", *SIGNING_ROLES))
    settings = Settings()
    with open_service(settings, from_snapshots=True) as service:
        done = rotate(settings.home, service, load_kafka(settings), role)
    noting.note(settings, "key_rotated", resource=f"{role} {done.old} {done.new}")
    _finish(done, as_json, f"{role} key {done.new} signs now; {done.old} still counts, end that by `chimera keys drop {done.old}`")


@app.command("harden")
def harden_(role: SigningRole, as_json: JsonOption = False) -> None:
    """Have the law ask for this role's signature: make its key, and list it in every partition.

    From then on its records count only if they are signed with a listed key. The key lies in keys/ROLE.key of this home; where the
    role's processes have a home of their own, bring the file there first.

    Example: chimera keys harden judge
    """
    _one_of(role, SIGNING_ROLES)
    settings = Settings()
    with open_service(settings, from_snapshots=True) as service:
        done = harden(settings.home, role, service, load_kafka(settings))
    noting.note(settings, "key_asked_for", resource=f"{role} {done.new}")
    _finish(done, as_json, f"the {role} signs with key {done.new}, and what it does not sign is void")


@app.command("soften")
def soften_(role: SigningRole, as_json: JsonOption = False) -> None:
    """Have the law ask for this role's signature no more. What it signed keeps counting, and its key file stays."""
    _one_of(role, SIGNING_ROLES)
    settings = Settings()
    with open_service(settings, from_snapshots=True) as service:
        done = soften(settings.home, role, service, load_kafka(settings))
    noting.note(settings, "key_asked_no_more", resource=f"{role} {done.old}")
    _finish(done, as_json, f"the {role} need not sign: {done.old} left the law")


@app.command("drop")
def drop_(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key that no longer signs (`chimera keys list`).")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a replaced key out of the law: what is signed with it from now on is void. What it signed before keeps counting."""
    settings = Settings()
    output.sure(f"take the key {key} out of the law for good?", yes, as_json)
    with open_service(settings, from_snapshots=True) as service:
        done = drop(settings.home, key, service, load_kafka(settings))
    noting.note(settings, "key_dropped", resource=done.old)
    _finish(done, as_json, f"key {done.old} counts no more" + (f"; {done.new} signs" if done.new else ""))


def _one_of(role: str, roles: tuple[str, ...]) -> None:
    if role not in roles:
        raise output.usage(f"'{role}' is none of {', '.join(roles)}: the root key is pinned for good, and no other role signs")


def _finish(done: Rotated, as_json: bool, words: str) -> None:
    if as_json:
        output.print_json(done._asdict())
    else:
        output.console().print(f"{words} ({done.partitions} partitions adopted it)")


def _listed(ids: list[dict[str, Any]]) -> str:
    return ", ".join(each["id"] + (" (signs)" if each["signs"] else "") for each in ids)


def _partitions(numbers: list[int]) -> str:
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) == numbers[-1] - numbers[0] + 1 > 1 else ", ".join(map(str, numbers))
