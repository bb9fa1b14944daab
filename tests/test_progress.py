"""The bar of a notebook: one for all epochs, in a kernel only, and not in the book."""

import IPython.display
import pytest

from rodpo_lite import figures, progress


class ZMQInteractiveShell:
    """By its name, what a kernel has."""


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", ZMQInteractiveShell)


@pytest.fixture
def places(monkeypatch):
    """What every place that something was displayed at has shown, in order."""
    found = []

    class Place:
        def __init__(self, html, display_id):
            found.append([html.data])

        def update(self, html):
            found[-1].append(html.data)

    monkeypatch.setattr(IPython.display, "display", Place)
    return found


def test_all_epochs_move_one_bar(kernel, places, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", -1)
    bar = progress.shown()
    for epoch in (1, 2):
        assert list(bar("ab", total=2, desc=f"epoch {epoch} of 2")) == ["a", "b"]
    (place,) = places
    assert [part.split('"')[1] for part in place] == ["0", "1", "2"] * 2
    assert place[-1] == '<progress value="2" max="2"></progress> epoch 2 of 2'


def test_a_bar_is_not_moved_more_often_than_one_can_see(kernel, places):
    list(progress.shown()(range(1000), total=1000, desc="epoch 1 of 1"))
    assert len(places[0]) < 10


def test_there_is_no_bar_outside_a_kernel_or_in_the_book(kernel, monkeypatch):
    monkeypatch.setenv(figures.BOOK_MODE, "1")
    assert progress.shown() is None
    monkeypatch.delenv(figures.BOOK_MODE)
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    assert progress.shown() is None
