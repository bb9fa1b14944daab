"""Terms of the glossary in a page: the first mention is linked, in prose only."""

from docutils.core import publish_doctree
from tiny_book import PROJECT

from companion.site import definitions

TERMS = {"pool": {"means": "K items", "also": ["top-K pool"]}, "Holm's correction": {"means": "for many tests"}}
ADDRESSES = {name: f"glossary.html#term-{number}" for number, name in enumerate(TERMS)}
TEXT = """
The pool
========

A ``pool`` in code, a `pool <https://example.org>`_ that is a link, carpools;
then the **top-K Pool**, and the pool again.

* By Holm’s correction.
"""


def test_the_first_mention_in_prose_is_linked_with_its_meaning():
    doctree = publish_doctree(TEXT)
    definitions.link(doctree, TERMS, ADDRESSES)
    links = [node for node in doctree.findall() if "rodpo-term" in getattr(node, "attributes", {}).get("classes", ())]
    assert [(node.astext(), node["refuri"], node["reftitle"]) for node in links] == [
        ("top-K Pool", "glossary.html#term-0", "K items"),
        ("Holm’s correction", "glossary.html#term-1", "for many tests"),
    ]
    assert doctree.astext() == publish_doctree(TEXT).astext(), "not a letter is lost"


def test_every_term_of_the_book_has_one_meaning_and_no_spelling_twice():
    terms = definitions.read(PROJECT / "book")
    spellings = [text.lower() for name, term in terms.items() for text in (name, *term.get("also", ()))]
    assert len(spellings) == len(set(spellings)) and all(term["means"].endswith(".") for term in terms.values())
    assert definitions.read(PROJECT / "notebooks") == {}
