"""The pipeline on a tiny book: what is executed again and what is not, and what a failure says."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from tiny_book import PROJECT, write_tiny_book

from companion.site import execution, figures, pages, staging
from companion.site.build import CHECKSUMS, BookError, build
from rodpo_lite.data.schema import sha256
from rodpo_lite.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def environment():
    """No real data, on which pages would depend, and a repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RODPO_DATA", raising=False)
        patch.setenv("RODPO_REPOSITORY", "Someone/rodpo")
        yield


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """A built tiny book; a test that edits it puts it back."""
    root = write_tiny_book(tmp_path_factory.mktemp("book"))
    build(root, progress=lambda line: None)
    return root


@pytest.fixture
def edit(book):
    """Replaces text in a source of the book, until the test ends."""
    originals = {}

    def replace(name: str, old: str, new: str) -> None:
        path = book / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        originals.setdefault(path, text)
        path.write_text(text.replace(old, new), encoding="utf-8")

    yield replace
    for path, text in originals.items():
        path.write_text(text, encoding="utf-8")


def executed(root: Path, **arguments) -> set[str]:
    """Build, and the names of the notebooks that were executed for it."""
    lines: list[str] = []
    build(root, progress=lines.append, **arguments)
    return {line.removesuffix(": executed") for line in lines if line.endswith(": executed")}


def stale(root: Path, profile: str = "smoke") -> set[str]:
    return {page.name for page in pages.find_pages(root, profile, root / "_build") if not page.is_fresh()}


def test_what_takes_longest_is_executed_first(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("a", "b", "c", "d"):
        (tmp_path / "notebooks" / f"{name}.py").touch()
    (tmp_path / "notebooks" / "profiles.yml").write_text("profiles: {smoke: {}}\nfirst: [d, b, gone]\n")
    assert [page.name for page in pages.find_pages(tmp_path, "smoke", tmp_path)] == ["d", "b", "a", "c"]


def test_the_site_has_figures_data_downloads_and_the_stamp(book):
    site = book / "_build" / "html"
    page = (site / "notebooks" / "plots.html").read_text(encoding="utf-8")
    assert page.count('<script type="application/json">') == 4
    assert "Data of this figure" in page and "A wide table" in page
    assert "profile smoke" in page and "seed 3" in page
    assert "w_at_0 = 0.5" not in page and pages.METRIC not in page
    for name in ("plots.ipynb", "plots.py"):
        assert list((site / "_downloads").rglob(name))
    assert (site / "_static" / "vendor" / "plotly" / "plotly-cartesian.min.js").is_file()
    assert (site / "404.html").is_file()
    sums = dict(line.split("  ")[::-1] for line in (site / CHECKSUMS).read_text().splitlines())
    assert sums["notebooks/plots.html"] == sha256(site / "notebooks" / "plots.html")
    assert len(sums) == sum(path.is_file() for path in site.rglob("*")) - 1
    assert "- [Plots](notebooks/plots.html)\n- [Sums](notebooks/sums.html)\n" in (site / "llms.txt").read_text()


def test_the_sites_plotly_is_that_of_the_package():
    from plotly.offline import get_plotlyjs_version

    script = PROJECT / "book" / "_static" / "vendor" / "plotly" / "plotly-cartesian.min.js"
    assert f"(cartesian - minified) v{get_plotlyjs_version()}\n" in script.read_text(encoding="utf-8")[:200]


def test_each_figure_has_a_still_picture_and_says_how_it_was_made(book):
    site = book / "_build" / "html"
    page = (site / "notebooks" / "plots.html").read_text(encoding="utf-8")
    for number in (1, 2):
        assert f'<noscript><img src="../_static/figures/plots-{number}.svg"' in page
        picture = (site / "_static" / "figures" / f"plots-{number}.svg").read_text(encoding="utf-8")
        assert picture.startswith("<svg") and "slider" not in picture and "updatemenu" not in picture
    assert "Code cell 2 of this page · profile smoke" in page and "Code cell 4 of this page" in page
    assert "<figcaption>Pushes by strategy.</figcaption>" in page and "<em>Pushes by strategy.</em>" not in page


def test_a_live_figure_has_its_texts_its_script_and_a_still(book):
    site = book / "_build" / "html"
    page = (site / "notebooks" / "plots.html").read_text(encoding="utf-8")
    figure = re.search(r'<figure class="rodpo-figure" data-live="pool">.*?</figure>', page, re.DOTALL)[0]
    assert 'aria-label="A live figure." hidden>' in figure and "Guess first, 1 of 3." in figure
    assert '<noscript><img src="../_static/figures/plots-4.svg" alt="A live figure."' in figure
    assert '<script defer src="../_static/lab/pool.js"></script>' in figure and "rodpo-plot" not in figure
    assert {path.name for path in (site / "_static" / "lab").iterdir()} == {
        "pool.js",
        "power.js",
        "race.js",
        "verdicts.js",
    }
    assert "import " not in re.sub(
        r"/\*.*?\*/", "", (site / "_static" / "lab" / "pool.js").read_text(), flags=re.DOTALL
    )


def test_a_shared_link_shows_title_description_and_card(book):
    page = (book / "_build" / "html" / "notebooks" / "plots.html").read_text(encoding="utf-8")
    tags = dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', page))
    assert tags["og:title"] == "Plots" and tags["og:type"] == "article"
    assert tags["og:site_name"] == "RoDPO, put to the test"
    assert tags["og:description"].startswith("The margin") and tags["description"] == tags["og:description"]
    assert tags["og:url"] == "https://someone.github.io/rodpo/notebooks/plots.html"
    assert tags["og:image"] == "https://someone.github.io/rodpo/_static/card.png"
    assert tags["twitter:card"] == "summary_large_image"
    assert (book / "_build" / "html" / "_static" / "card.png").is_file()


def test_a_downloaded_notebook_shows_its_figures_wherever_it_is_opened(book):
    page = next(page for page in pages.find_pages(book, "smoke", book / "_build") if page.name == "plots")
    notebook = nbformat.reads(staging.for_readers(page), 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
    plots = [data for data in shown if figures.PLOTLY in data]
    assert [plot[figures.PLOTLY]["data"][0]["type"] for plot in plots] == ["scatter", "bar", "bar", "bar"]
    assert all(plot["image/svg+xml"].startswith("<svg") for plot in plots)
    assert [plot["text/plain"] for plot in plots] == [
        "Three falling curves.",
        "Two bars.",
        "Two bars.",
        "A live figure.",
    ]
    assert any("*Pushes by strategy.*" == data.get("text/markdown") for data in shown)
    assert not any("rodpo-plot" in data.get("text/html", "") or pages.METRIC in data for data in shown)
    assert "colab" not in nbformat.writes(notebook)


def test_a_page_offers_what_its_repository_offers(book):
    page = next(page for page in pages.find_pages(book, "smoke", book / "_build") if page.name == "plots")
    assert "binder" not in staging.for_the_site(page)
    offered = staging.for_the_site(page, "someone/rodpo")
    assert "https://mybinder.org/v2/gh/someone/rodpo/notebooks?urlpath=lab/tree/notebooks/plots.ipynb" in offered
    assert "https://colab.research.google.com/github/someone/rodpo/blob/notebooks/notebooks/plots.ipynb" in offered
    first = nbformat.reads(staging.for_readers(page, "someone/rodpo"), 4).cells[0]
    assert "git clone --quiet --depth 1 https://github.com/someone/rodpo" in first.source


def test_the_metrics_stand_beside_the_executed_notebook(book):
    folder = book / "_build" / "executed" / "smoke"
    assert json.loads((folder / "plots.metrics.json").read_text()) == {"w_at_0": 0.5}
    assert json.loads((folder / "sums.metrics.json").read_text()) == {"total": 6}


def test_what_is_published_names_no_local_path(book):
    for path in (book / "_build" / "html").rglob("*"):
        if path.suffix in (".html", ".ipynb", ".js"):
            assert str(book) not in path.read_text(encoding="utf-8"), path


def test_a_second_build_executes_nothing_and_an_edit_only_its_own_page(book, edit):
    assert executed(book) == set()
    edit("notebooks/sums.py", "total = sum", "total = 1 + sum")
    assert executed(book) == {"sums"}
    assert json.loads((book / "_build/executed/smoke/sums.metrics.json").read_text()) == {"total": 7}
    assert executed(book, force=True) == {"plots", "sums"}


def test_an_edited_style_is_published(book, edit):
    build(book, progress=lambda line: None)
    edit("book/_static/rodpo.css", "/* Typography:", "/* Letters:")
    assert executed(book) == set(), "no page is executed for it"
    assert "/* Letters:" in (book / "_build/html/_static/rodpo.css").read_text(encoding="utf-8")


def test_parameters_and_libraries_make_pages_stale(book, edit, monkeypatch):
    build(book, progress=lambda line: None)
    edit("notebooks/profiles.yml", "smoke: {}", "smoke: {sums: {last: 4}}")
    assert stale(book) == {"sums"}
    edit("notebooks/profiles.yml", "smoke: {sums: {last: 4}}", "smoke: {}")
    assert stale(book) == set()

    with monkeypatch.context() as patch:
        patch.setattr(pages, "version", lambda name: "0")
        assert stale(book) == {"plots", "sums"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Notebooks of one import each, and a copy of the packages; tells which of them a change makes stale."""
    for name in pages.PACKAGES:
        shutil.copytree(pages.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "profiles.yml").write_text("profiles: {smoke: {}}")
    imports = {
        "ledger": "def later(): from companion.evidence.comparison import change",  # through others
        "costs": "import companion.findings.costs",
        "data": "from rodpo_lite.data import schema",
        "losses": "import rodpo_lite.losses.preference",
        "figures": "from companion.site import figures",
        "plain": "from companion.site.pages import record",
    }
    for name, code in imports.items():
        (tmp_path / "notebooks" / f"{name}.py").write_text(code)

    def changed(path: str, content: str = "# changed") -> set[str]:
        hashes = [{page.name: page.hash for page in pages.find_pages(tmp_path, "smoke", tmp_path)}]
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a") as file:
            file.write(content)
        hashes.append({page.name: page.hash for page in pages.find_pages(tmp_path, "smoke", tmp_path)})
        return {name for name in hashes[0] if hashes[0][name] != hashes[1][name]}

    return changed


EVERY = {"ledger", "costs", "data", "losses", "figures", "plain"}


@pytest.mark.parametrize(("path", "expected"), [
    ("data/results/run.json", {"ledger"}),
    ("data/results/ranks/run.parquet", {"ledger"}),
    ("workflow/grid.yaml", {"ledger"}),
    ("workflow/Snakefile", set()),
    ("benchmarks/results.json", {"costs"}),
    ("book/sentences/names.yml", {"costs"}),
    ("rodpo_lite/presets/recommended.yaml", EVERY - {"data"}),
    ("data/amazon/toys/dataset.json", {"ledger", "data"}),
    ("companion/evidence/ledger.py", {"ledger"}),
    ("rodpo_lite/losses/preference.py", {"ledger", "losses"}),
    ("companion/site/template.yml", {"figures"}),
    ("companion/site/execution.py", EVERY),
    ("companion/site/pages.py", EVERY),
    ("companion/site/staging.py", set()),
    ("companion/site/build.py", set()),
    ("companion/site/check.py", set()),
    ("companion/cli/book.py", set()),
])  # fmt: skip
def test_a_page_is_stale_when_what_it_imports_or_reads_has_changed(project, path, expected):
    assert project(path) == expected


@pytest.mark.parametrize(
    "path", ["data/results/.run.json.x7", "benchmarks/.results.json", "data/amazon/.toys/dataset.json"]
)
def test_what_a_killed_write_leaves_makes_no_page_stale(project, path):
    assert project(path) == set()


def test_real_data_elsewhere_counts(project, tmp_path, monkeypatch):
    monkeypatch.setenv("RODPO_DATA", str(tmp_path / "elsewhere"))
    assert project("elsewhere/toys/dataset.json") == {"ledger", "data"}
    assert project("data/amazon/toys/dataset.json") == set()


def test_the_modules_that_read_files_exist():
    assert [module for module in pages.READS if not (pages.ROOT / module).is_file()] == []


def test_a_notebook_that_is_no_text_is_refused_when_it_is_executed(book):
    path = book / "notebooks" / "sums.py"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.replace(b"# Sums", b"# Sums \xff"))
        with pytest.raises(InputError, match=r"sums\.py is not UTF-8 text"):
            build(book, progress=lambda line: None)
    finally:
        path.write_bytes(kept)


def test_a_profile_sets_parameters_and_the_page_shows_them(book):
    page = next(page for page in pages.find_pages(book, "paper", book / "_build") if page.name == "sums")
    execution.execute([page], book / "_build", lambda line: None)
    assert json.loads(page.metrics.read_text()) == {"total": 15}
    assert "last = 5" in page.executed.read_text()


def test_a_raising_notebook_fails_with_its_cell_and_keeps_the_site(book, edit):
    before = (book / "_build/html/notebooks/sums.html").read_bytes()
    edit("notebooks/sums.py", "total = sum(range(last + 1))", "total = 1 / 0")
    with pytest.raises(BookError) as caught:
        build(book, progress=lambda line: None)
    where = r"notebooks/sums\.py, code cell 2 \(`from companion\.site\.pages import record`\): "
    assert re.match(
        where + r"ZeroDivisionError: division by zero \(executed so far: .*sums\.failed\.ipynb\)$", str(caught.value)
    )
    failed = nbformat.read(book / "_build/executed/smoke/sums.failed.ipynb", 4)
    assert any(output.output_type == "error" for cell in failed.cells for output in cell.get("outputs", ()))
    assert (book / "_build/html/notebooks/sums.html").read_bytes() == before
    assert stale(book) == {"sums"}


def test_a_warning_fails_every_time_until_it_is_mended(book, edit):
    edit("book/index.md", "It cites", "It [links nowhere](missing.md) and cites")
    for _ in range(2):
        with pytest.raises(BookError, match=r"1 warning.*\nindex\.md:\d+: WARNING: .*missing\.md"):
            build(book, progress=lambda line: None)
    edit("book/index.md", "[links nowhere](missing.md)", "links nowhere")
    build(book, progress=lambda line: None)


@pytest.mark.parametrize(("name", "old", "new", "message"), [
    ("notebooks/profiles.yml", "smoke: {}", "smoke: {other: {last: 1}}", "no notebook 'other'"),
    ("notebooks/profiles.yml", "smoke: {}", "smoke: {sums: {lats: 1}}", "sums.py: .* does not set 'lats'"),
    ("notebooks/profiles.yml", "smoke: {}", "smoke: {sums: {last: '5'}}", "sums.py: .* is no int; its default is 3"),
    ("notebooks/sums.py", '# %% tags=["parameters"]', "# %%", "no cell tagged “parameters”"),
])  # fmt: skip
def test_parameters_that_do_not_fit_are_refused(book, edit, name, old, new, message):
    edit(name, old, new)
    with pytest.raises(InputError, match=message):
        build(book, progress=lambda line: None, force=True)


def test_bad_arguments_are_refused(book, tmp_path, monkeypatch):
    monkeypatch.delenv("RODPO_REPOSITORY", raising=False)
    with pytest.raises(InputError, match="'large' is unknown: choose one of smoke, paper"):
        build(book, "large")
    with pytest.raises(InputError, match=r"has no _config\.yml"):
        build(tmp_path)
    monkeypatch.setenv("GITHUB_REPOSITORY", "https://github.com/a/b")
    with pytest.raises(InputError, match=r"GITHUB_REPOSITORY is 'https://github\.com/a/b': it must be owner/name"):
        build(book)


def test_a_metric_recorded_twice_or_not_finite_is_refused(book, edit):
    with pytest.raises(ValueError, match="finite"):
        pages.record("x", float("nan"))
    with pytest.raises(TypeError, match="list"):
        pages.record("x", [1])
    edit("notebooks/sums.py", 'record("total", total)', 'record("total", total); record("total", 1)')
    with pytest.raises(BookError, match=r"sums\.py: metric 'total' is recorded twice"):
        build(book, progress=lambda line: None)


def test_a_foreign_python3_kernel_is_not_used(book, tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "R"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    page = next(page for page in pages.find_pages(book, "smoke", tmp_path) if page.name == "sums")
    execution.execute([page], tmp_path, lambda line: None)
    assert page.is_fresh()


def test_the_hashed_libraries_are_the_projects_dependencies():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert names - {"typer", "rich"} <= set(pages.LIBRARIES)  # these two only shape the command line


def test_the_configuration_starts_no_notebook_and_names_no_other_host():
    text = (PROJECT / "_config.yml").read_text()
    config = yaml.safe_load(text)
    assert config["execute"]["execute_notebooks"] == "off"
    assert "http" not in text
