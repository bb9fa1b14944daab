"""The live figures that draw from recorded runs: the verdict explorer, and experiments that are repeated."""

import re

import pytest
from chromium import Browser

pytestmark = pytest.mark.browser


def choose(browser: Browser, **choices: object) -> str:
    """The sentence of the verdict explorer after a choice, which the keyboard makes like the mouse."""
    for name, value in choices.items():
        browser.run(
            "const at = document.querySelector(`[data-live=verdicts] [name=${arguments[0]}]`);"
            "if (at.type === 'checkbox') at.checked = arguments[1]; else at.value = arguments[1];"
            "at.dispatchEvent(new Event('input', { bubbles: true }));",
            name,
            value,
        )
    return browser.run("return document.querySelector('[data-live=verdicts] .lab-verdict').textContent")


def test_the_sentence_of_the_explorer_follows_the_choice(live):
    first = "Rejecting the pool, compared with the hardest (one tower; all items), "
    assert choose(live) == first + "is better on Toys and Sports; shows no clear difference on Beauty."
    marks = "return [...document.querySelectorAll('.lab-now')].map((at) => at.classList[1])"
    assert live.run(marks) == ["lab-better", "lab-better", "lab-open"]
    stays = choose(live, stays=True)
    assert stays.startswith(first.replace("all items)", "all items; the reference may stay)"))
    assert stays.endswith("is better on Toys; is worse on Beauty; leaves the reference in its place on Sports.")
    assert live.run("return document.querySelectorAll('[data-live=verdicts] .lab-faint').length") == 3
    assert choose(live, base="towers").startswith("These two have not both run")
    partly = choose(live, base="fused", stays=False, rejected="hard", against="reference", protocol="history dropped")
    assert partly.endswith("(one tower; history dropped), is worse on Toys.")
    assert (
        live.run("return document.querySelector('[data-live=verdicts] svg').textContent.match(/not run/g).length") == 2
    )


def test_more_users_make_intervals_shorter(live):
    def repeated(**settings: int) -> tuple[float, int]:
        for name, place in settings.items():
            live.run(
                "const at = document.querySelector(`[data-live=power] [name=${arguments[0]}]`);"
                "at.value = arguments[1]; at.dispatchEvent(new Event('input', { bubbles: true }));",
                name,
                place,
            )
        text = live.run("return document.querySelector('[data-live=power] .lab-verdict').textContent")
        assert live.run("return document.querySelectorAll('line.lab-interval').length") == 100
        return float(re.search(r"±([\d.]+)", text)[1]), int(re.search(r"(\d+) show one", text)[1])

    few, many = repeated(users=1, seeds=3, effect=0), repeated(users=3, seeds=3, effect=0)
    assert few[0] / many[0] == pytest.approx(2, rel=0.15) and max(few[1], many[1]) <= 12
    assert repeated(users=6, seeds=3, effect=5)[1] > 60
