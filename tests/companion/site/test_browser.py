"""The site in a real browser, opened from disk with the network off: a tiny book always, the built book if it is there.

RODPO_SITE names another folder than `_build/html`.
"""

import os
import re
import time
from functools import partial
from html import unescape
from operator import eq, ne
from pathlib import Path
from urllib.parse import unquote

import pytest
from chromium import UNDRAWN
from tiny_book import PROJECT, write_tiny_book

pytestmark = pytest.mark.browser

# Text that a reader sees, without code and without what MathJax made of it.
TEXT = """
    const walk = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
    const text = [];
    while (walk.nextNode()) {
      if (!walk.currentNode.parentElement.closest("pre, code, script, noscript, mjx-container")) {
        text.push(walk.currentNode.data);
      }
    }
    return text.join("");
"""
UNTYPESET = """
    return [...document.querySelectorAll(".math")].filter((math) => !math.querySelector("mjx-container")).length
      + document.querySelectorAll("mjx-merror, [data-mjx-error]").length;
"""
ICONS = """
    const icons = [...document.querySelectorAll("[class*=' fa-']:not(.fa-layers)")];
    const drawn = (icon) => icon.matches("svg") && icon.querySelector(":scope > path[d]"); // an unknown one is a group
    return icons.filter((icon) => !drawn(icon)).map((icon) => icon.getAttribute("class"));
"""
HEAVIEST_PAGE, HEAVIEST_VISIT = 1e6, 6e6  # bytes: one page alone, and with every file that it loads
INK = "return getComputedStyle(document.querySelector('.rodpo-plot .xtick text')).fill"


@pytest.fixture(scope="module")
def tiny(browser, tmp_path_factory) -> Path:
    from companion.site.build import build

    return build(write_tiny_book(tmp_path_factory.mktemp("book")), progress=lambda line: None)


@pytest.fixture(scope="module", params=["tiny book", "built book"])
def site(request) -> Path:
    if request.param == "tiny book":
        return request.getfixturevalue("tiny")
    folder = Path(os.environ.get("RODPO_SITE") or PROJECT / "_build" / "html")
    if not (folder / "index.html").exists():
        pytest.skip(f"there is no built book in {folder}: run `make book` first")
    return folder


def pages(site: Path) -> list[Path]:
    return [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]


def test_each_page_shows_its_figures_and_mathematics_without_a_complaint(browser, site):
    problems = {}
    for page in pages(site):
        browser.open(page)
        faults = []
        if undrawn := browser.draw_all():
            faults.append(f"{undrawn} figures without marks")
        if untypeset := browser.wait(UNTYPESET, (0).__eq__):
            faults.append(f"{untypeset} formulas not typeset")
        text = browser.run(TEXT) if browser.run("return !!document.querySelector('article')") else ""
        faults += [
            f"raw {sign!r}" for sign in ("\\frac", "\\beta", "\\(", "\\[", "$$", "Traceback (most") if sign in text
        ]
        if faults := faults + browser.complaints():
            problems[page.name] = faults
    assert not problems


def test_icons_are_drawn(browser, site):
    for name in ("index.html", "search.html"):
        browser.open(site / name)
        assert browser.wait(ICONS, [].__eq__) == []
        assert browser.run("return document.querySelectorAll('svg[data-icon]').length") > 5, name


def test_no_page_scrolls_sideways_on_a_telephone(browser, site):
    too_wide = {}
    for page in pages(site):
        browser.open(page, width=375, height=800)
        assert browser.draw_all() == browser.wait(UNTYPESET, (0).__eq__) == 0, page.name
        browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        if (width := browser.run("return document.documentElement.scrollWidth")) > 375:
            too_wide[page.name] = width
    assert not too_wide


def test_figures_follow_the_theme(browser, site):
    with_axes = 0
    for page in pages(site):
        browser.open(page)
        browser.run("document.documentElement.dataset.theme = 'light'")
        browser.draw_all()
        if not browser.run("return document.querySelector('.rodpo-plot .xtick text')"):
            continue
        with_axes += 1
        assert (light := browser.wait(INK, bool)), page.name
        browser.run("document.documentElement.dataset.theme = 'dark'")
        assert browser.wait(INK, partial(ne, light)) != light, page.name
        browser.run("document.documentElement.dataset.theme = 'light'")
        assert browser.wait(INK, partial(eq, light)) == light, page.name
    assert with_axes


def test_nothing_keeps_a_reader_out(browser, site):
    """axe-core, WCAG 2.2 AA: nothing serious or critical on any page in either theme."""
    problems = {}
    for page in pages(site):
        browser.open(page)
        browser.draw_all()
        for theme in ("light", "dark"):
            browser.run("document.documentElement.dataset.theme = arguments[0]", theme)
            time.sleep(0.3)  # colours change over a moment
            if barriers := browser.barriers():
                problems[f"{page.name}, {theme}"] = barriers
    assert not problems


def test_no_page_is_heavy(browser, site):
    heavy, most = {}, 0
    for page in pages(site):
        browser.open(page)
        browser.draw_all()
        files = browser.loaded() - {page.resolve()}
        page_size, visit = page.stat().st_size, page.stat().st_size + sum(path.stat().st_size for path in files)
        most = max(most, len(files))
        if page_size > HEAVIEST_PAGE or visit > HEAVIEST_VISIT:
            heavy[page.name] = (page_size, visit)
    assert not heavy and most > 10, "style, scripts, plotly and mathematics were seen"


def test_every_link_within_the_site_leads_somewhere(site):
    broken = []
    anchors = {
        page.resolve(): set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))) for page in pages(site)
    }
    for page in pages(site):
        for link in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text(encoding="utf-8")):
            target, _, anchor = unescape(link).partition("#")
            if ":" in target or target.startswith("/"):
                continue
            path = (page.parent / unquote(target)).resolve() if target else page.resolve()
            if not path.is_file() or (anchor and path in anchors and unquote(anchor) not in anchors[path]):
                broken.append(f"{page.name}: {link}")
    assert not broken


def test_plotly_is_loaded_only_where_there_is_a_figure(browser, tiny):
    for name, expected in (("plots", True), ("sums", False)):
        browser.open(tiny / "notebooks" / f"{name}.html")
        time.sleep(0.3)
        assert browser.wait("return typeof Plotly !== 'undefined'", expected.__eq__, 5) is expected


def test_a_menu_and_a_slider_work_by_keyboard_too(browser, tiny):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(tiny / "notebooks" / "plots.html", width=375)
    assert browser.draw_all() == 0
    lines = "return document.querySelectorAll('.rodpo-plot .scatterlayer .trace').length"
    assert browser.run(lines) == 3
    browser.run("document.querySelector('.rodpo-plot').scrollIntoView({block: 'center'})")
    every, one = browser.driver.find_elements(By.CSS_SELECTOR, ".rodpo-control button")
    one.click()
    assert browser.wait(lines, (1).__eq__) == 1
    assert (every.get_attribute("aria-pressed"), one.get_attribute("aria-pressed")) == ("false", "true")
    every.send_keys(Keys.ENTER)
    assert browser.wait(lines, (3).__eq__) == 3

    slider = browser.driver.find_element(By.CSS_SELECTOR, ".rodpo-control input[type=range]")
    slider.send_keys(Keys.END)
    bar = "return document.querySelectorAll('.rodpo-plot')[1].data[0].y[1]"
    assert browser.wait(bar, lambda height: height != 2) == pytest.approx(3 / 20)
    assert slider.get_attribute("aria-valuetext") == "20"


def test_a_long_table_is_sorted_and_filtered_by_keyboard(browser, tiny):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def column(number):
        return browser.run(
            """const box = document.querySelector('[aria-label="A long table"]');
            const rows = [...box.querySelectorAll('tbody tr:not([hidden])')];
            return rows.map((row) => row.cells[arguments[0]].textContent)""",
            number,
        )

    browser.open(tiny / "notebooks" / "plots.html")
    _, change, runs = browser.driver.find_elements(By.CSS_SELECTOR, '[aria-label="A long table"] thead button')
    change.send_keys(Keys.ENTER)
    found = column(1)
    assert found[0].startswith("+7.5") and found[-2].startswith("-6.5") and found[-1] == "–", "what is missing is last"
    change.send_keys(Keys.ENTER)
    found = column(1)
    assert found[0].startswith("-6.5") and found[-2].startswith("+7.5") and found[-1] == "–"
    runs.send_keys(Keys.ENTER)
    assert column(2) == [str(n * 1000) for n in range(14, -1, -1)]
    assert browser.run("return document.querySelectorAll('th[aria-sort]').length") == 1
    (field,) = browser.driver.find_elements(By.CSS_SELECTOR, ".rodpo-filter")
    field.send_keys("13000 row")
    assert column(0) == ["row 13"], "every word, wherever it stands"


def test_titles_of_items_stay_text(browser, tiny):
    """HTML and scripts in a title are shown as they are, in tables, on axes, in legends and where a reader hovers."""
    browser.open(tiny / "notebooks" / "plots.html")
    browser.draw_all()
    browser.run("""
        document.querySelectorAll("details").forEach((details) => { details.open = true });
        Plotly.Fx.hover([...document.querySelectorAll(".rodpo-plot")].at(-1), [{ curveNumber: 0, pointNumber: 0 }]);
    """)
    shown = browser.run("return [...document.querySelectorAll('td')].map((cell) => cell.textContent)")
    assert any("<script>window.live = 1</script>" in text for text in shown)
    assert browser.run("return window.live ?? null") is None
    foreign = "article :is(img[src='x'], a[href^='javascript'], [onerror])"
    assert browser.run("return document.querySelectorAll(arguments[0]).length", foreign) == 0
    assert not browser.complaints()


def test_printing_draws_every_figure_on_white(browser, tiny):
    browser.open(tiny / "notebooks" / "plots.html", height=300)
    browser.run("document.documentElement.dataset.theme = 'dark'")
    browser.wait("return typeof Plotly !== 'undefined'", bool)
    assert browser.run(UNDRAWN) > 0  # the second one is far below
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.wait(UNDRAWN, (0).__eq__) == 0
    assert browser.run("return document.documentElement.dataset.theme") == "light"
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.documentElement.dataset.theme") == "dark"


def test_search_works_from_disk(browser, tiny):
    browser.open(tiny / "search.html", "?q=margin")
    results = browser.wait("return document.querySelector('#search-results ul')?.innerText ?? ''", bool)
    assert "Plots" in results
    assert not browser.complaints()
