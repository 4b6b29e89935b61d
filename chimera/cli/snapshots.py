"""`chimera snapshots`: which saved states a restart would start from, and building those of a new version before it runs.

The rule not to break: building reads the log and writes snapshots; it serves no agent and appends nothing. Exit codes: 0 done,
1 failure, 2 usage.
"""

from __future__ import annotations

import typer

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.commands.keys import LOG, PARTITIONS, load_installation
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import read_until
from chimera.events.partition import PartitionFold
from chimera.projections.schema import migrate
from chimera.settings import Settings
from chimera.snapshots.build import save_whole
from chimera.snapshots.postgres import PostgresSnapshots
from chimera.snapshots.state import Saved, maker, of_projector
from chimera.stack.addresses import load

app = typer.Typer(no_args_is_help=True, help="Saved states that processes start from instead of folding the whole log.")


@app.command("list")
def list_snapshots(as_json: JsonOption = False) -> None:
    """One line per law, state format and code: how far their snapshots reach. `mine` are those that this version would use."""
    settings = Settings()
    mine = maker(load_installation(settings.home).root)
    store = PostgresSnapshots(load(settings).postgres, mine)
    rows = [
        {
            "mine": held.maker in (mine, of_projector(mine)),
            "law": held.maker.law,
            "format": held.maker.format,
            "code": held.maker.code,
            "partitions": held.partitions,
            "agents": held.agents,
            "records": held.records,
            "oldest_s": held.oldest_s,
        }
        for held in store.held()
    ]
    store.close()
    if as_json:
        output.print_json(rows)
        return
    console = output.console()
    for row in rows:
        console.print(
            f"{'mine ' if row['mine'] else 'other'} law {row['law']}, format {row['format']}, code {row['code']}: "
            f"{row['partitions']} partitions up to {row['records']} records, {row['agents']} agents, oldest {row['oldest_s']} s ago"
        )
    if not any(row["mine"] for row in rows):
        console.print("none for this version: its first start folds from offset 0 (`chimera snapshots build` does that beforehand)")


@app.command()
def build(as_json: JsonOption = False) -> None:
    """Fold the whole log now and save a snapshot of every partition, beside those of other versions.

    Example: run the new version's `chimera snapshots build`, then restart; the processes start where it ended.
    """
    settings = Settings()
    addresses, installation = load(settings), load_installation(settings.home)
    migrate(addresses.postgres)
    folds = {p: PartitionFold(p, PARTITIONS, installation.root_public, place) for p in range(PARTITIONS)}
    times = dict.fromkeys(folds, 0)
    for batch in read_until(addresses.kafka, LOG, folds):
        for raw in batch:
            folds[raw.partition].apply(raw)
            times[raw.partition] = raw.append_ts
    store = PostgresSnapshots(addresses.postgres, maker(installation.root))
    answers = save_whole(store, [(fold, times[p]) for p, fold in folds.items()])
    store.close()
    records = sum(fold.next_offset for fold in folds.values())
    kept = sum(answer is Saved.KEPT for answer in answers.values())
    agents = sum(len(fold.agents) for fold in folds.values())
    if as_json:
        output.print_json({"kept": kept, "later_ones_there": len(answers) - kept, "records": records, "agents": agents})
    else:
        later = f"; of {len(answers) - kept} there was a later one" if kept < len(answers) else ""
        output.console().print(f"{kept} partitions saved, {records} records, {agents} agents{later}")
