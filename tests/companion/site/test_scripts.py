"""Modules become classic scripts, one for each figure."""

from pathlib import Path

import pytest
from tiny_book import PROJECT

from companion.site import scripts

MODULES = sorted((PROJECT / "book" / "_static" / "lab").glob("*.js"))


def test_what_a_classic_script_cannot_have_is_refused():
    with pytest.raises(ValueError, match="no module b"):
        scripts.script({"a.js": 'import { b } from "./b.js";'}, "a.js")
    for text in ("export default 1;", 'import b from "./b.js";', "const here = import.meta.url;", 'import("./b.js");'):
        with pytest.raises(ValueError, match="has no place in a classic script"):
            scripts.script({"a.js": text}, "a.js")


def test_a_script_for_each_figure_and_none_for_what_they_share():
    folder, other = Path("_site", "lab"), Path("_site", "rodpo.css")
    files = {folder / path.name: path.read_bytes() for path in (PROJECT / "book" / "_static" / "lab").glob("*.js")} | {
        other: b"p {}"
    }
    made = scripts.classic(files, folder)
    assert made[other] == b"p {}"
    assert {path.name for path in made if path.parent == folder} >= {"pool.js", "race.js"}
    assert not {folder / "mathematics.js", folder / "runner.js"} & made.keys()


@pytest.mark.browser
def test_the_sources_are_modules(browser, live_page):
    """As they are written, without the build; a module's imports are given to it by address."""
    browser.open(live_page)
    browser.driver.set_script_timeout(20)
    load = r"""
        const [sources, done] = arguments, addresses = {};
        const imported = /from "\.\/([\w-]+\.js)"/g;
        const text = (name) => sources[name].replace(imported, (_, other) => `from "${address(other)}"`);
        const blob = (name) => new Blob([text(name)], { type: "text/javascript" });
        const address = (name) => addresses[name] ??= URL.createObjectURL(blob(name));
        const load = (name) => import(address(name)).then((module) => [name, Object.keys(module)]);
        const all = Promise.all(Object.keys(sources).map(load));
        all.then((loaded) => done(Object.fromEntries(loaded)), (error) => done(String(error)));
    """
    exported = browser.driver.execute_async_script(
        load, {path.name: path.read_text(encoding="utf-8") for path in MODULES}
    )
    assert isinstance(exported, dict), exported
    assert {"step", "law", "ndcg"} <= set(exported["mathematics.js"]) and exported["pool.js"] == []
