"""What Jupyter Book is given: figures as HTML, and what a shared link shows."""

import json
import re

import pytest
import yaml
from tiny_book import write_tiny_book

from companion.site import staging


def test_nothing_in_a_figure_closes_its_script_or_attribute():
    evil = '</script><b onload="x">&'
    figure = {"data": [{"name": evil}], "layout": {}}
    html = staging.figure_html(figure, {"caption": evil, "alt": evil, "data": None}, "1.svg", evil)
    assert html.count("<script") == html.count("</script>") == 1
    assert "<b " not in html
    payload = re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1]
    assert json.loads(payload) == figure
    assert html.count('="&lt;/script&gt;&lt;b onload=&quot;x&quot;&gt;&amp;"') == 2, "for the figure and its picture"


def test_nothing_in_the_inputs_of_a_live_figure_closes_its_script():
    words = {"caption": "c", "alt": '"><b>', "data": None, "live": "pool", "still": "<b>"}
    words["inputs"] = {"title": "</script><b>"}
    html = staging.figure_html({}, words, "1.svg", "made", "<div></div>")
    assert html.count("<script") == html.count("</script>") == 2 and "<b>" not in html
    assert json.loads(re.search(r'json">(.*?)</script>', html)[1]) == words["inputs"]


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("Someone/rodpo", "https://someone.github.io/rodpo/"),
        ("someone/someone.github.io", "https://someone.github.io/"),
    ],
)
def test_where_pages_are_served(repository, expected):
    assert staging.site_address(repository) == expected


def test_pages_name_their_card_only_where_the_site_is_known(tmp_path, monkeypatch):
    root, folder = write_tiny_book(tmp_path / "book"), tmp_path / "stage"
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.delenv("RODPO_REPOSITORY", raising=False)
    staging.stage(root, [], folder)
    config = yaml.safe_load((folder / "_config.yml").read_text())["sphinx"]["config"]
    assert "ogp_site_url" not in config and "ogp_image" not in config
    monkeypatch.setenv("RODPO_REPOSITORY", "someone/rodpo")
    staging.stage(root, [], folder)
    config = yaml.safe_load((folder / "_config.yml").read_text())["sphinx"]["config"]
    assert config["ogp_site_url"] == "https://someone.github.io/rodpo/"
    assert (folder / config["ogp_image"].replace("_static", staging.STATIC)).is_file()
