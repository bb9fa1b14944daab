"""Sentences follow the facts: what must change with the numbers changes, and each fact is needed."""

import re

import jinja2
import pytest

from companion.findings.sentences import FOLDER, fill, listed, render


def test_words_in_a_list():
    assert [listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_a_fact_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="hidden"):
        render("pushed", validation=[])


def test_what_pages_ask_for_is_there_and_nothing_else():
    book = FOLDER.parent
    pages = [book / "index.md", *FOLDER.glob("*.j2"), *(book.parent / "notebooks").glob("*.py")]
    pages += (book.parent / "companion").rglob("*.py")
    asked = r'(?:render|sentence)\("(\w+)"|(?:include|from) "(\w+)\.md\.j2"'
    names = {"".join(found) for page in pages for found in re.findall(asked, page.read_text(encoding="utf-8"))}
    assert names == {path.name.removesuffix(".md.j2") for path in FOLDER.glob("*.j2")}


def test_a_page_is_filled_in_and_keeps_its_lines():
    page = 'One\nline. {{ sentence("sampling_pays", {"meets": 1234.0}) }}\n'
    assert fill(page).startswith("One\nline. A straight line") and fill(page).endswith("about 1,234 items.\n")


@pytest.mark.parametrize(
    ("share", "validation", "said"),
    [(-87.0, [], "changes by −87\u00a0%"), (12.0, [{"dataset": "Toys", "hard": 9.0, "topk": 4.0}], "9 and 4 on Toys.")],
)
def test_pushes(share, validation, said):
    assert said in render("pushed", hidden=[{"dataset": "W", "share": share, "amount": 3.0}], validation=validation)
    assert ("Of 10,000" in render("pushed", hidden=[], validation=validation)) == bool(validation)


def test_a_pool_that_hits_more_often_turns_the_sentence():
    other = {name: {"hard": 2, "topk": 1} for name in ("validation", "push", "pushed_hidden")}
    other |= {"hidden": {"hard": 60.0, "topk": 10.0, "uniform": 1.0}, "k": 20}
    assert "explanation holds: " in render("hits", on_hidden={"hard": 9, "topk": 1}, **other)
    assert "explanation does not hold: " in render("hits", on_hidden={"hard": 1, "topk": 9}, **other)


def _drift(low, high, exceptions=()):
    moved = [{"row": name, "mean": (low + high) / 2, "low": low, "high": high} for name in ("hard", "topk", "uniform")]
    together = {"hidden purchases": -0.5, "validation items": 0.1}
    facts = {"below": [], "above": 0, "cases": 6, "selectors": 3, "together": together, "moved": moved}
    facts["validation"] = moved[:2]
    return render("drift", **facts, exceptions=list(exceptions))


def test_who_sinks_is_said_by_the_intervals():
    assert "shown to sink under **`hard` and `topk`**" in _drift(-2.0, -1.0)
    assert "shown to sink under **neither `hard` nor `topk`**" in _drift(-2.0, 1.0)
    assert "Against the trend" not in _drift(-2.0, 1.0)
    assert "Validation items move by −1.500 [−2.000, −1.000] and by −1.500" in _drift(-2.0, -1.0)
    assert "though this hits them 5 times" in _drift(-2.0, 1.0, [{"row": "static", "times": 5.2}])


def _claim(**more):
    member = {"dataset": "Toys", "after": "topk", "before": "hard", "verdict": "reproduced"}
    member |= {"estimate": 1.0, "low": 0.5, "high": 1.5}
    waiting = {"dataset": "Sports", "after": "topk", "before": "hard", "verdict": "not run yet"}
    claim = {"says": "More.", "measure": "ndcg@5", "verdict": "open", "members": [member, waiting], "beside": []}
    return claim | {"first": [member], "tally": {"reproduced": 1}, "smallest": [2.0]} | more


def test_where_most_of_the_lead_lies():
    rows = [{"dataset": name, "change %": 13.9, "all": 9.5, "share": share} for name, share in (("A", 0.2), ("B", 1.5))]
    said = render("popular", shares=rows[1:])
    assert said.startswith("**Most of the pool's lead") and "1 of 1 comparisons, most on B" in said
    assert render("popular", shares=rows).startswith("**Less than half of")


UNKNOWN = {
    "hidden": [],
    "spared": [],
    "hardest": [],
    "losses": [],
    "believes": [],
    "stopped": [],
    "trend": None,
    "lies": {"of": 0, "most": 0},
}
UNKNOWN |= {null: {"of": 0, "above": 0, "below": 0} for null in ("skipping", "later")}


@pytest.mark.parametrize(("most", "said"), [(4, True), (3, False)])
def test_where_most_of_the_lead_lies_is_said_if_it_lies_there(most, said):
    text = render("because", **UNKNOWN | {"lies": {"of": 6, "most": most}})
    assert ("the most popular, in 4 of 6 comparisons" in text) is said and (text == "") is not said


def _members(what, *verdicts):
    """A row for each protocol."""
    protocols, beside = zip(verdicts, (22.4, -1.3), ("all items", "history dropped")), {"what": what, "dataset": "W"}
    return [
        beside | {"verdict": kind, "estimate": one, "low": one - 30, "high": one + 30, "protocol": on}
        for kind, one, on in protocols
    ]


@pytest.mark.parametrize(
    ("verdicts", "most", "said"),
    [
        (["most of it", "most of it"], 6, "Popular items that are rejected as the hardest are most of why"),
        (["a part of it", "not shown"], 6, "Popular items that are rejected as the hardest are a part of why"),
        (["a part of it", "it widens"], 0, "That popular items are why is not shown"),
        (
            ["at most half", "at most half"],
            6,
            "The lead lies where the next item is popular, and popularity taken off",
        ),
        (["at most half", "not shown"], 6, "The lead lies where the next item is popular.**"),
        (["no gap", "not shown"], 0, "That popular items are why is not shown"),
    ],
)
def test_whether_popular_items_are_why_is_said_by_what_the_hardest_item_wins_back(verdicts, most, said):
    facts = {"hardest": _members("alone", *verdicts)}
    text = render("because", **UNKNOWN | facts | {"lies": {"of": 6, "most": most}}).replace("\xa0", " ")
    assert text.startswith(f"- **{said}") and ("in 6 of 6 comparisons" in text) == (most == 6)
    assert "gives back +22 % [−8 %, +52 %] and −1 % [−31 %, +29 %] of the lead" in text


def test_which_robust_losses_save_the_hardest_item():
    one, other = _members("rpo", "most of it", "not shown"), _members("cdpo", "at most half", "it widens")
    text = render("because", **UNKNOWN | {"losses": [*one, *other]}).replace("\xa0", " ")
    assert text.startswith("- **`rpo` saves on the hardest item much of what the pool's draw saves.**")
    assert "`rpo` makes up 22 % and −1 % (all items ranked, history dropped), and `cdpo` nothing that shows." in text
    for estimate, low in ((99.6, 99.0), (93.0, 80.0)):
        believes = [{"row": "hard", "estimate": estimate, "low": low}, {"row": "topk", "estimate": 95.0, "low": 94.0}]
        text = render("because", **UNKNOWN | {"losses": [*one, *other], "believes": believes}).replace("\xa0", " ")
        assert text.endswith("it ends believing 100 % of them to be the wrong way round.") == (low > 90)
    text = render("because", **UNKNOWN | {"losses": other})
    assert text == (
        "- **No robust loss is seen to save on the hardest item what the pool's draw saves.** Nothing shows that "
        "`cdpo` made up."
    )


@pytest.mark.parametrize(
    ("verdicts", "trend", "said"),
    [
        (["most of it", "most of it"], -1.0, "they are most of why"),
        (["most of it", "at most half"], -1.0, "they are a part of why"),
        (["at most half", "at most half"], 1.0, "those that are known are not most of why"),
        (["at most half", "not shown"], 1.0, "that they are why is not shown"),
        ([], -1.0, "that they are why is not shown"),
        ([], 1.0, "more of them make a larger gap"),
    ],
)
def test_whether_wrong_pushes_are_why_is_said_by_what_sparing_them_leaves(verdicts, trend, said):
    pushed = {"dataset": "W", "share": -80.0, "amount": -30.0}
    spared = [
        {"verdict": verdict, "estimate": 10.0, "high": high, "protocol": protocol}
        for verdict, high, protocol in zip(verdicts, (34.0, 28.0), ("all items", "history dropped"))
    ]
    line = {"estimate": trend, "low": trend - 0.5, "high": trend + 0.5}
    text = render("because", **UNKNOWN | {"hidden": [pushed], "spared": spared, "trend": line})
    assert f"real; {said}.**" in text and ("10\u00a0% with all items ranked" in text) == bool(verdicts)
    assert ("34\u00a0%" in text) == bool(verdicts)


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ((-1.0, 2.0, 3.0), "With the history dropped, the pool gains more on the reference that was trained longest"),
        ((2.0, 2.5, 3.0), "That the pool gains more the longer its reference was trained is not shown"),
    ],
)
def test_whether_gains_rise_with_training_is_said_by_protocol(dropped, said):
    changes = {"all items": (0.5, 2.0, 1.0), "history dropped": dropped}
    longer = [
        {"protocol": protocol, "what": "over its reference", "change": one, "epochs": epochs, "reference": epochs}
        | {"low": one - 1, "high": one + 1}
        for protocol, values in changes.items()
        for epochs, one in zip((8.0, 21.4, 60.0), values, strict=True)
    ]
    text = render("longer", longer=longer).replace("\xa0", " ")
    assert text.startswith(f"**{said}") and "After 8, 21 and 60 epochs, it changes" in text
    assert "over its reference by +0.5, +2.0 and +1.0 % with all items ranked; over" in text
    assert render("longer", longer=[]) == ""


def test_what_a_reference_that_was_stopped_early_takes_from_the_pool():
    stopped = [
        {"dataset": "Toys", "protocol": protocol, "verdict": kind, "gap %": 2.5, "left %": -2.3}
        | {"estimate": 180.0, "low": low, "high": 256.0}
        for protocol, kind, low in (("all items", "no gap", -900.0), ("history dropped", "most of it", 104.0))
    ]
    text = render("because", **UNKNOWN | {"stopped": stopped}).replace("\xa0", " ")
    assert "+2.5 % on the one is −2.3 % on the other. With all items" in text
    assert "900" not in text and render("because", **UNKNOWN | {"stopped": stopped[:1]}) == ""
    members = render("intervention", asks="Why?", members=[one | {"what": "early"} for one in stopped])
    unsure = [one | {"what": "early", "verdict": "not shown", "smallest": 97.4} for one in stopped]
    assert "Of each, 97\xa0% or more would have been seen" in render("intervention", asks="Why?", members=unsure)
    assert (
        "would have been seen" not in members
        and "Most of it: early, +180" in members
        and "900" not in members
        and "there is no gap to close" in members
    )


def test_verdicts_are_counted():
    claims = [{"verdict": kind} for kind in ("mixed", "reproduced", "mixed")]
    assert render("verdicts", claims=claims) == "Of 3 claims, 2 are mixed, 1 is reproduced."
    claims = [{"verdict": kind} for kind in ("open, 2 of 14 have run", "not run yet", "open, 2 of 20 have run")]
    assert render("verdicts", claims=claims) == "Of 3 claims, 2 have run in part, 1 has not run at all."


def test_where_nothing_has_run_nothing_is_claimed():
    for name, facts in {
        "pool": {"pools": []},
        "popular": {"shares": []},
        "for_whom_popular": {"changes": []},
        "because": UNKNOWN,
        "bases": {"changes": []},
        "others": {"changes": []},
        "precisions": {"usual": None},
        "marked": {"counts": []},
        "how_far": {"of": 1},
        "ranks_drawn": {"windows": []},
    }.items():
        assert render(name, **facts) == "", name
    assert render("steps", datasets={"Toys": {}}).endswith("- **Toys**: not run yet.")
    assert render("rejected", prefix="", changes=[]) == "*No run is on record yet.*"
    assert render("answer", hard={"of": 0}) == "*No run is on record yet.*"
