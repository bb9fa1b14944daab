"""`rodpo book` and `rodpo check`: the notebooks as a site, and against what they recorded before."""

import sys
from pathlib import Path
from typing import Annotated

import typer

Profile = Annotated[str, typer.Option(help="smoke (synthetic world) or paper (real data)")]


def book(
    profile: Profile = "smoke",
    force: Annotated[bool, typer.Option("--force", help="execute every notebook again")] = False,
) -> None:
    """Execute the notebooks that changed and build the static book in _build/html.

    Example: `rodpo book --profile smoke`
    """
    from companion.site.build import build

    print(build(Path.cwd(), profile, force=force))


def check(
    profile: Profile = "smoke",
    only: Annotated[str, typer.Option(help="only these chapters, as in training,selection")] = "",
    update: Annotated[bool, typer.Option("--update", help="make what is recorded now the baseline")] = False,
) -> None:
    """Execute every notebook again and compare its recorded metrics with the baseline; exit code 1 if one drifted.

    Example: `rodpo check`, and after a change that is meant `rodpo check --update`
    """
    from companion.site import check as regression
    from companion.site import report

    root = Path.cwd()
    found = regression.check(root, profile, tuple(name for name in only.split(",") if name))
    _print(found)
    if update:
        print(f"wrote {regression.update(root, profile, found)}")
        return
    print(f"report: {report.write(found, root / '_build' / 'check' / profile)}")
    if found.wrong:
        print("rodpo: if this is meant, `rodpo check --update` makes it the baseline.", file=sys.stderr)
        raise typer.Exit(1)


def _print(found) -> None:
    """What is wrong and what moved as a table, and a sentence."""
    from rich.console import Console
    from rich.table import Table

    from companion.site.check import COLUMNS

    if rows := [*found.wrong, *found.moved]:
        table = Table(*COLUMNS, title="what moved", show_lines=False)
        for row in rows:
            table.add_row(*row.experiments(), style="bold" if row.wrong else None)
        Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)
    print(found.summary)
