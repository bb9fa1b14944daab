"""The first page says what the ledger holds, and the opposite where the ledger holds the opposite."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import groupby, product

import pytest

from companion.evidence import claims
from companion.evidence.grid import Grid
from companion.evidence.ledger import FOLDER, Ledger
from companion.evidence.plan import GRID
from companion.findings import answer as answers
from companion.findings import explorer, sentences
from companion.site.parts import front
from companion.site.parts.board import board, in_short
from companion.site.parts.forest import forest
from rodpo_lite.evaluation.statistics import Interval

INDEX = GRID.parent.parent / "book" / "index.md"


@pytest.fixture(scope="module")
def grid():
    return Grid.read(GRID)


@pytest.fixture(scope="module")
def ledger():
    return Ledger(FOLDER)


def test_every_sentence_is_filled_in():
    found = front.fill(INDEX.read_text(encoding="utf-8"), FOLDER)
    assert "**Always rejecting the hardest item" in found and not re.search(r"{{|}}|{%|nan\b|None", found)


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    assert front.fill("# A page\n", tmp_path) == "# A page\n"


def _told(facts) -> list[str]:
    """What the sentences say in bold."""
    return re.findall(r"\*\*(.+?)\*\*", sentences.render("answer", **facts))


def test_the_answer_turns_with_the_numbers(grid, ledger, monkeypatch):
    facts = answers.answer(grid, ledger)
    base, *theirs, own, hard, pool, reference, any_item, wider, mixture, more = _told(facts)
    assert base.startswith("With HM4SR") and own.startswith("With our own two bases, on Toys,")
    assert theirs[0] == "On Toys the pool helps and does better than the hardest item."
    assert (hard, pool) == (
        "Always rejecting the hardest item hurts.",
        "A random item of the best K does better than the hardest,",
    )  # fmt: skip
    assert "helps on Toys alone" in reference and mixture == "The sparse mixture never clearly helped:"
    assert any_item.endswith("it is ahead here and there:") and more.endswith("matter more:")
    assert wider.endswith("any random item does better than the pool:")
    real = answers.changes

    def turned(*arguments, **options):
        table = real(*arguments, **options)
        ends = {"change %": -table["change %"], "low": -table["high"], "high": -table["low"]}
        return table.assign(**ends)

    monkeypatch.setattr(answers, "changes", turned)
    monkeypatch.setattr(answers, "given_up", lambda experiment, ledger: 0)
    facts = answers.answer(grid, ledger)
    _, *theirs, _, hard, pool, reference, _, wider, mixture, _ = _told(facts)
    assert theirs[0] == "On Toys the pool hurts and does worse than the hardest item."
    assert wider.endswith("the pool does better than any random item:")
    assert (hard, pool) == (
        "Always rejecting the hardest item helps.",
        "A random item of the best K does worse than the hardest,",
    )  # fmt: skip
    assert "hurts on Toys" in reference and "helped in" in mixture
    assert facts["hard"]["refused"] == 0


def test_how_the_rows_on_hm4sr_were_tuned(grid, ledger):
    """Trials that a study stopped have no end; the rule lets the hardest item give way to what it started from."""
    one = next(one for one in answers.tuned_on_their_base(grid, ledger) if one["dataset"].startswith("Toys"))
    began = {row["row"]: (row["ended"], row["begun"]) for row in one["rows"]}
    assert began["hm4sr_topk"] == (9, 10) and began["hm4sr_uniform"] == (3, 8) and "hm4sr" not in began
    ruled, recorded = answers.by_the_rule(grid, ledger), answers.over_their_base(grid, ledger)
    ruled, recorded = (table[table["dataset"] == "toys-timed"] for table in (ruled, recorded))
    assert ruled["change %"].tolist() == recorded.loc[recorded["what"] == "over its reference", "change %"].tolist()
    said = sentences.render("their_rule", ruled=ruled, tuned=[one]).replace("\xa0", " ")
    assert "K = 20 to 51 validated below the reference and K = 120 to 8,300 above it" in said
    assert "9 of 10 of `hm4sr_topk`" in said and "Small pools" not in sentences.render(
        "their_rule", ruled=ruled, tuned=[one | {"pools": one["pools"] + [{"k": 9000, "change %": -1.0}]}]
    )


def test_the_answer_is_counted_by_hand(grid, ledger):
    facts = answers.answer(grid, ledger)
    pairs = [("hard", "fused"), ("towers_hard", "towers")]
    table = answers.changes(grid, pairs, ledger)
    assert facts["hard"]["of"] == len(table) == 12 and facts["hard"]["below"] == (table["high"] < 0).sum()
    assert facts["hard"]["seeds"] == 2 * 3 * 5


class _Forest(HTMLParser):
    """Of each table its classes, its sentence and its lines: what stands in the cells, and the classes of pictures."""

    def __init__(self, text):
        super().__init__()
        self.panels, self.toggles, self.says = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        look = attrs.get("class", "").split()
        if tag == "input":
            self.toggles.append((attrs["value"], "checked" in attrs))
        if look[:1] == ["panel"]:
            self.panels.append({"look": look[1:], "says": "", "kinds": []})
        if look[:1] == ["track"]:
            self.panels[-1]["kinds"].append(look[1])
        self.says = look == ["says"]

    def handle_data(self, data):
        if self.says:
            self.panels[-1]["says"] += data


def test_the_picture_has_a_table_for_each_choice_whose_sentence_turns(grid, ledger):
    found = explorer.table(grid, ledger)
    picture = _Forest(forest(found, grid))
    choices = [list(group) for _, group in groupby((value for value, _ in picture.toggles), lambda v: v.split("-")[0])]
    assert [len(names) for names in choices] == [2, 3, 2]
    assert sum(checked for _, checked in picture.toggles) == 3, "one of each choice to begin with"
    assert sorted(panel["look"] for panel in picture.panels) == sorted(map(list, product(*choices)))
    first = picture.panels[0]
    assert len(first["kinds"]) == 12 and first["says"].startswith("The hardest item is worse on every dataset; ")
    turned = found.assign(**{"change %": -found["change %"], "low": -found["high"], "high": -found["low"]})
    other = _Forest(forest(turned, grid)).panels[0]
    assert other["says"].startswith("The hardest item is better on every dataset; ")
    swap = {"better": "worse", "worse": "better", "open": "open"}
    assert other["kinds"] == [swap[kind] for kind in first["kinds"]]
    assert "No run is on record" in forest(found[:0], grid)


class _Board(HTMLParser):
    """Marks: class, what they open and how they are named; cards by id; links to them."""

    def __init__(self, text):
        super().__init__()
        self.marks, self.cards, self.open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "button" and "popovertargetaction" not in attrs:
            self.marks.append((attrs["class"].split(), attrs["popovertarget"], attrs["aria-label"]))
        if "popover" in attrs:
            self.open = attrs["id"]
            self.cards[self.open] = ""

    def handle_data(self, data):
        if self.open:
            self.cards[self.open] += data


def test_the_board_has_a_mark_and_a_card_for_each_pair_and_protocol(grid, ledger):
    summaries = claims.summaries(claims.read(grid), grid, ledger)
    found = _Board(board(summaries))
    deciding = [member for claim in summaries for member in claim["members"]]
    others = [member for claim in summaries for member in claim["others"]]
    kinds = Counter(look[1] for look, *_ in found.marks if "aside" not in look)
    assert kinds == Counter(member["verdict"].replace(" ", "-") for member in deciding)
    assert sum("aside" in look for look, *_ in found.marks) == len(others) > 0
    assert Counter(target for _, target, _ in found.marks) == dict.fromkeys(found.cards, 1), "each opens its own"
    for look, target, name in found.marks:
        assert name.startswith(look[1].replace("-", " ")) and name.split(": ")[1] in found.cards[target]
        assert ("decides nothing" in found.cards[target]) == ("aside" in look)


def test_the_board_leaves_out_where_nothing_has_run(grid, ledger):
    (claim,) = (one for one in claims.summaries(claims.read(grid), grid, ledger) if one["name"] == "hard_signal")
    where = {member["column"] for member in claim["members"]}
    assert {"Beauty", "Toys"} < where
    parts = {
        part: [m | ({"verdict": claims.NOT_RUN} if m["column"] == "Beauty" else {}) for m in claim[part]]
        for part in ("members", "others")
    }
    text = board([claim | parts])
    assert "Beauty" not in text and all(name in text for name in where - {"Beauty"})


def test_a_card_holds_what_the_rule_found(grid, ledger):
    (claim,) = (one for one in claims.summaries(claims.read(grid), grid, ledger) if one["name"] == "hard_signal")
    toys = claim["members"][0]
    card = _Board(board([claim])).cards["card-hard-signal-topk-toys-all-items"]
    assert Interval(toys["estimate"], toys["low"], toys["high"]).text(1) in card
    assert f"{toys['smallest']:.1f} % or more" in card and claim["says"] in card and "the rule" in card


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({"Toys": ["reproduced"] * 2, "Sports": ["reproduced"]}, "reproduced: 3 of 3"),
        ({"Toys": ["reproduced", "inconclusive"], "Sports": ["inconclusive"]}, "reproduced in part: 1 of 3, Toys only"),
        (
            {"Toys": ["reproduced"], "Sports": ["contradicted"]},
            "mixed: 1 of 2, Toys only; against it 1 of 2, Sports only",
        ),
        ({"Toys": ["contradicted", "no effect"]}, "contradicted in part: 1 of 2"),
        ({"Toys": ["no effect"], "Sports": ["no effect"]}, "no effect"),
        ({"Toys": ["no effect"], "Sports": ["inconclusive"]}, "inconclusive"),
        ({"Toys": ["not run yet"]}, "not run yet"),
        ({"Toys": ["reproduced"] * 2 + ["inconclusive", "not run yet"]}, "open, 3 of 4 have run: 2 reproduced"),
        ({"Toys": ["inconclusive", "not run yet"]}, "open, 1 of 2 have run"),
    ],
)  # fmt: skip
def test_a_verdict_in_short(verdicts, said):
    members = [{"column": column, "verdict": kind} for column, kinds in verdicts.items() for kind in kinds]
    verdict = claims.conclusion([member["verdict"] for member in members])
    assert in_short({"verdict": verdict, "members": members}) == said
