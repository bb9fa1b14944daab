"""`rodpo report`: one HTML file with the answer first, and the command that makes it."""

import dataclasses
import json
import re
import tomllib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from import_cases import START, Row, store

from companion.cli.report import _clock, report
from companion.own_log.decision import WORTH, Decision, decide
from companion.own_log.report import answer, write
from companion.own_log.tables import models
from companion.own_log.trial import Trial, recommended
from rodpo_lite.data.schema import read_dataset
from rodpo_lite.errors import InputError
from rodpo_lite.evaluation.statistics import Comparison

SMALL = {"epochs": 1, "batches_per_epoch": 4, "select_by": "masked.ndcg@5", "precision": "fp32"}
GAIN = Comparison(12.3, 4.5, 20.1, 3.5, 20, 0.001)
LOSS = Comparison(-5.0, -9.0, -1.0, 2.0, 20, 0.02)
DECISIONS = {
    "Keep": Decision("keep", "topk", "none", GAIN, GAIN),
    "Discard": Decision("discard", "hard", "item_knn", LOSS, LOSS),
    "Too small to say": Decision("too small", "uniform", "reference", GAIN),
    "nobody": Decision("too small", "uniform", "reference", None),
}


@pytest.fixture(scope="module")
def trial(world_folder, tmp_path_factory):
    dataset, settings = read_dataset(world_folder), {"encoder": {"width": 8}, "training": SMALL}
    alignment = recommended(dataset) | {"training": SMALL}
    done = Trial(dataset, world_folder, tmp_path_factory.mktemp("trial"), (1, 2), settings, alignment)
    list(done.run())
    return done


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.hidden = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self.hidden and data.strip():
            self.text.append(" ".join(data.split()))


@pytest.mark.parametrize("name", DECISIONS)
def test_the_answer_stands_first_and_the_page_needs_nothing_else(name, trial, tmp_path):
    decision = DECISIONS[name]
    write(trial, decision, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.text[1:3] == [words.replace("\u00a0", " ") for words in answer(trial, decision, False, WORTH)]
    assert page.text[1].startswith("Too small to say" if name == "nobody" else name)
    assert not [values for _, values in page.tags if values.keys() & {"src", "href"}], "nothing is loaded"
    assert [tag for tag, _ in page.tags].count("h1") == 1 and page.tags[0] == ("html", {"lang": "en"})
    plots = [values for tag, values in page.tags if values.get("class") == "rodpo-plot"]
    assert len(plots) >= 2 and all(len(plot["aria-label"]) > 20 for plot in plots)
    figures = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert len(figures) == len(plots) == text.count("<figcaption>") and all(json.loads(one)["data"] for one in figures)
    used = decision.candidate if name == "Keep" else decision.incumbent
    which = "--baseline item_knn" if used == "item_knn" else f"--run {trial.best_run(used)}"
    assert f"rodpo recommend --data {trial.data} {which} --all" in text


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_draws_it_from_disk_and_nothing_keeps_a_reader_out(theme, browser, trial, tmp_path):
    write(trial, DECISIONS["Keep"], tmp_path / "report.html")
    media = [{"name": "prefers-color-scheme", "value": theme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    for width in (1280, 360):
        browser.open(tmp_path / "report.html", width=width)
        assert browser.draw_all() == 0 and browser.complaints() == []
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(wide) <= 0, "no sideways scrolling"
        browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        assert browser.barriers() == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Keep", r"Keep topk. On test it changes NDCG@5 by \+12.3 % \[\+4.5 %, \+20.1 %\] over none, .* adds \d+ % to"),
        ("Discard", r"Discard the alignment and use item_knn. The best alignment, hard, changes .* by −5.0 %"),
        (
            "Too small to say",
            r"On validation uniform .* over reference. .* a gain of 2 %, the least .* about [\d,]+ users; .* 200",
        ),
        ("nobody", "None of 200 users has their next item among the five best"),
    ],
)
def test_answers(name, expected, trial):
    assert re.search(expected, ". ".join(answer(trial, DECISIONS[name], False, WORTH)).replace("\u00a0", " "))
    assert "decides nothing" in answer(trial, DECISIONS[name], True, WORTH)[0]


def test_the_users_that_it_asks_for_are_those_for_what_is_worth_it(trial):
    said = {worth: answer(trial, DECISIONS["Too small to say"], False, worth)[1] for worth in (0, 2, 4, 8)}
    asked = {worth: int(re.search(r"about ([\d,]+)", text)[1].replace(",", "")) for worth, text in said.items()}
    assert asked[0] == asked[2] and asked[2] == pytest.approx(4 * asked[4], rel=0.1) and asked[4] > 3 * asked[8]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", DECISIONS)
def test_an_answer_warns_of_a_log_without_times(name, quick, trial):
    unknown = dataclasses.replace(trial.dataset, timestamps=np.full(len(trial.dataset.items), np.nan))
    untimed = dataclasses.replace(trial, dataset=unknown)
    before, after = (answer(one, DECISIONS[name], quick, WORTH)[1] for one in (trial, untimed))
    assert after == before + " Beware: the log has no times, so that the order of events is a guess."


def test_the_command_goes_from_a_table_to_a_first_look_and_goes_on(tmp_path, monkeypatch, capsys):
    chance = np.random.default_rng(0)
    rows = [
        Row(f"u{user}", f"i{item}", START + 3600 * n)
        for user in range(40) for n, item in enumerate(chance.choice(30, 6, replace=False))
    ]  # fmt: skip
    log, out = store(tmp_path / "log.csv", rows), tmp_path / "report.html"
    monkeypatch.setattr("companion.own_log.trial.QUICK", {"reference": 1, "alignment": 1})
    report(log, out, quick=True)
    printed = capsys.readouterr().out
    assert "columns: user 'user_id', item 'item_id', time 'timestamp'" in printed and "1 seed, about " in printed
    assert printed.splitlines()[-1].startswith(f"{out}: A first look, which decides nothing")
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert len(trained) == 6 and not list(tmp_path.rglob("ranks.parquet")), "test is not read"
    out.unlink()
    report(log, out, quick=True)
    assert out.is_file() and trained == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    with pytest.raises(InputError, match="this log with no --user and --ties hash: remove it, or name"):
        report(log, out, quick=True, user="user_id", ties="file")
    store(log, rows[:-1])
    with pytest.raises(InputError, match="holds a trial of another log, or of this one before it changed"):
        report(log, out, quick=True)
    with pytest.raises(InputError, match="holds a trial of another log"):
        report(store(tmp_path / "other.csv", rows), out, quick=True)


EDGES = {  # user, item and place of each row
    "users who have every item": [(user, (user + n) % 2, n) for user in range(8) for n in range(5)],
    "items of one user each, so that nobody has a hit": [
        (user, 4 * user + n, n) for user in range(30) for n in range(4)
    ],
}


@pytest.mark.parametrize("rows", EDGES.values(), ids=EDGES)
def test_logs_in_which_there_is_nothing_to_find(rows, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("companion.own_log.trial.QUICK", {"reference": 1, "alignment": 1})
    log = store(tmp_path / "log.csv", [Row(f"u{user}", f"i{item}", START + n) for user, item, n in rows])
    report(log, tmp_path / "report.html", quick=True)
    assert "A first look, which decides nothing" in capsys.readouterr().out
    assert Page((tmp_path / "report.html").read_text()).text[1] == "A first look, which decides nothing"


@pytest.mark.parametrize(("row", "what"), [(("u", "i{}"), "user"), (("u{}", "i"), "item")])
def test_what_cannot_be_compared_is_refused(row, what, tmp_path):
    rows = [Row(*(part.format(n % 4) for part in row), START + n) for n in range(16)]
    with pytest.raises(InputError, match=f"log has a single {what}, so that there is nothing to compare"):
        report(store(tmp_path / "log.csv", rows), tmp_path / "report.html")


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r"report.pdf is not valid: .* its name ends in .html"):
        report(tmp_path / "log.csv", tmp_path / "report.pdf")
    with pytest.raises(InputError, match=r"There is no file or folder .*nothing, which LOG names"):
        report(tmp_path / "nothing", tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_rule_decides_with_what_the_trial_measured(trial):
    valid = {name: trial.ndcg(name, "valid") for name in models(trial)}
    decision = decide(valid, lambda name: trial.ndcg(name, "test"), worth=1000.0)
    assert decision.verdict in ("keep", "discard") and decision.test is not None, "nothing is worth ten times as much"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (720, "12 min"), (5400, "2 h"), (18_000, "5 h"), (1.02e6, "12 days")],
)
def test_how_long_is_said_in_words_of_its_size(seconds, said):
    assert _clock(seconds) == said


def test_the_command_is_an_entry_point():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["rodpo.commands"]["report"].split(":")
    assert getattr(import_module(module), name) is report
