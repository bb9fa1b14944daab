"""The theme's icon script without the icons that no page shows: two thousand icons weigh more than a chapter."""

import re
from pathlib import Path

SCRIPT = Path("_static", "scripts", "fontawesome.js")
_ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')
_SHOWN = re.compile(r"\bfa-([a-z0-9-]+)")


def keep_shown(site: Path) -> None:
    """Take from the icon script of a built site what no page and no other script names."""
    script = site / SCRIPT
    if not script.is_file():
        return
    others = [path for path in (site / "_static").rglob("*.js") if path != script and "vendor" not in path.parts]
    texts = (path.read_text(encoding="utf-8") for path in [*site.rglob("*.html"), *others])
    named = set(_SHOWN.findall("\n".join(texts)))

    def kept(icon: re.Match) -> str:
        aliases = re.findall(r'"([^"]+)"', icon[2])
        return icon[0] if named & {icon[1], *aliases} else ""

    script.write_text(_ICON.sub(kept, script.read_text(encoding="utf-8")), encoding="utf-8")
