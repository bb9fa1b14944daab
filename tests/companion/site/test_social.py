"""What a shared link shows."""

import pytest

from companion.site import social


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("Someone/rodpo", "https://someone.github.io/rodpo/"),
        ("someone/someone.github.io", "https://someone.github.io/"),
        (None, None),
    ],
)
def test_where_pages_are_served(repository, expected):
    assert social.address(repository) == expected


def test_a_page_names_its_card_only_where_the_site_is_known():
    found = social.tags('A "title" & more', "About.", "notebooks/data", "https://someone.github.io/rodpo/")
    assert 'content="A &quot;title&quot; &amp; more"' in found
    assert 'property="og:image" content="https://someone.github.io/rodpo/_static/card.png"' in found
    assert 'property="og:url" content="https://someone.github.io/rodpo/notebooks/data.html"' in found
    assert "og:image" not in social.tags("t", "d", "index", None)
