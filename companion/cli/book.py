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

    root = Path.cwd()
    result = regression.check(root, profile, tuple(name for name in only.split(",") if name))
    _print(result)
    if update:
        print(f"wrote {regression.update(root, profile, result)}")
        return
    print(f"report: {result.write_report(root / '_build' / 'check' / profile)}")
    if result.wrong:
        print("rodpo: if this is meant, `rodpo check --update` makes it the baseline.", file=sys.stderr)
        raise typer.Exit(1)


def _print(result) -> None:
    """Print what is wrong and what moved as a table, and the summary."""
    from rich.console import Console
    from rich.table import Table

    from companion.site.check import Finding

    if result.wrong or result.moved:
        table = Table(*Finding._fields, title="what moved", show_lines=False)
        for findings, style in ((result.wrong, "bold"), (result.moved, None)):
            for finding in findings:
                table.add_row(*finding.cells(), style=style)
        Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)
    print(result.summary)
