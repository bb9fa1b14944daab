"""A Sphinx extension: what a shared link to a page shows (Open Graph), and the description that search engines show."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes

from companion.site.sources import repository_name

CARD = "_static/card.png"
LONGEST = 200  # characters of a description


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", _add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def address(repository: str | None) -> str | None:
    """Where GitHub serves the pages of a repository, owner/name; None if there is none."""
    if not repository:
        return None
    owner, name = repository.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def tags(title: str, description: str, page: str, site: str | None) -> str:
    """The meta elements of a page; a card and an address need to know where the site is served."""
    found = {"og:type": "article", "og:title": title, "og:description": description}
    if site:
        found |= {"og:url": f"{site}{page}.html", "og:image": site + CARD, "twitter:card": "summary_large_image"}
    lines = [f'<meta property="{name}" content="{escape(value)}">' for name, value in found.items()]
    return "\n".join([f'<meta name="description" content="{escape(description)}">', *lines])


def _add(app: Any, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if doctree is None:
        return
    first = next(iter(doctree.findall(nodes.paragraph)), None)
    description = " ".join(first.astext().split()) if first else app.config.project
    if len(description) > LONGEST:
        description = description[:LONGEST].rsplit(" ", 1)[0] + " …"
    site = address(repository_name())
    context["metatags"] = context.get("metatags", "") + tags(context["title"], description, page, site)
