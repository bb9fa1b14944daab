"""The book's ES modules as classic scripts: a page that is opened from disk may load neither a module nor a worker.

Modules are written in plain ways only: `import { a, b } from "./x.js";`, `export` before a function, a class or a
const, and `new Worker(new URL("./x.js", import.meta.url), { type: "module" })`, whose worker is then started from the
text of the script itself.
"""

import json
import re
from pathlib import Path

FOLDER = "lab"  # of the static files: what is in it are modules
_IMPORT = re.compile(r'^import (\{[\w\s,]*\}) from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_WORKER = re.compile(r'new Worker\(new URL\("\./([\w-]+\.js)", import\.meta\.url\), \{ type: "module" \}\)')
_LEFT = re.compile(r"^(?:import|export)\b.*|import\.meta.*|\bimport\(.*", re.MULTILINE)
_SCRIPT = """"use strict";
(function script(entry) {
  const modules = {
%s
  };
  const loaded = {};
  const load = (name) => {
    if (!loaded[name]) modules[name](loaded[name] = {}, load, work);
    return loaded[name];
  };
  const work = (name) => {
    const text = `"use strict";(${script})("${name}")`;
    return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  };
  load(entry);
})(%s);
"""


def classic(files: dict[Path, bytes], folder: Path) -> dict[Path, bytes]:
    """Files of which those in `folder` are scripts in the place of modules: one of each module that exports nothing.

    Such a module draws a figure; the others are in the scripts of those that import them.
    """
    modules = {path.name: text.decode() for path, text in files.items() if path.parent == folder}
    workers = {name for text in modules.values() for name in _WORKER.findall(text)}
    entries = [name for name, text in modules.items() if not _EXPORT.search(text) and name not in workers]
    others = {path: text for path, text in files.items() if path.parent != folder}
    return others | {folder / name: script(modules, name).encode() for name in entries}


def script(modules: dict[str, str], entry: str) -> str:
    """A module and all that it needs, by file name, as one classic script that runs it.

    Raises ValueError for a module that is not there, or is written in another way.
    """
    pending, bodies = [entry], {}
    while pending:
        name = pending.pop()
        if name not in modules:
            raise ValueError(f"there is no module {name} among {', '.join(sorted(modules))}")
        if name not in bodies:
            bodies[name] = _body(name, modules[name])
            pending += [needed for _, needed in _IMPORT.findall(modules[name])] + _WORKER.findall(modules[name])
    functions = (f'"{name}": function (exports, load, work) {{\n{body}\n}},' for name, body in sorted(bodies.items()))
    return _SCRIPT % ("\n".join(functions), json.dumps(entry))


def _body(name: str, text: str) -> str:
    """The body of a function that does what the module does."""
    exported = _EXPORT.findall(text)
    text = _IMPORT.sub(r'const \1 = load("\2");', text)
    text = _WORKER.sub(r'work("\1")', _EXPORT.sub("", text))
    if left := _LEFT.search(text):
        raise ValueError(f"the module {name} has {left[0]!r}, which has no place in a classic script")
    return f"{text.rstrip()}\nObject.assign(exports, {{ {', '.join(exported)} }});"
