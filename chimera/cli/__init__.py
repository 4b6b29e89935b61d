"""The command line: one file per verb family, each exposing `app: typer.Typer` or a function `command`.

In: words and settings. Out: text or JSON and an exit code. A verb decides nothing itself; it calls the room that does.
"""
