"""What people have, in the canonical format: one entry for each format that `rodpo data import` reads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rodpo_lite.data.features import Made
from rodpo_lite.data.importers import amazon, columns, recbole
from rodpo_lite.data.importers.interactions import InteractionLog
from rodpo_lite.data.importers.request import Request


@dataclass(frozen=True)
class Format:
    """A format: how its interactions, the texts of its items and their images are read.

    locate: the request with every file that the format finds by itself. texts: a text or None for each id. images:
    features for each id. uses: options beside those that every format takes.
    """

    summary: str
    read: Callable[[Request], InteractionLog]
    texts: Callable[[Request, list[str]], list[str | None]]
    id_column: str = "id"
    uses: tuple[str, ...] = ()
    locate: Callable[[Request], Request] = lambda request: request
    images: Callable[[Request, list[str]], Made] | None = None


FORMATS: dict[str, Format] = {
    "csv": Format(
        "A table with a column for users and one for items: text with any usual delimiter, JSON lines, Parquet, "
        "Feather or ORC, by its first bytes; another has the items' texts.",
        columns.read_csv,
        columns.read_csv_texts,
        uses=("user", "item", "time", "rating", "delimiter", "text", "no_header", "encoding"),
    ),
    "recbole": Format(
        "RecBole's atomic files: an .inter file or a folder with one, or with its .train, .valid and .test parts; the "
        "columns of tokens with words of an .item file are the texts.",
        recbole.read,
        recbole.read_item_texts,
        uses=("user", "item", "time", "rating", "text", "encoding"),
        locate=recbole.locate,
    ),
    "amazon2014": Format(
        "Amazon reviews of 2014 as JSON lines; metadata, also as Python literals, and image features.",
        partial(amazon.read_reviews, keys=("reviewerID", "asin", "unixReviewTime", "overall")),
        partial(amazon.read_texts, key="asin", parse=amazon.literal),
        id_column="asin",
        uses=("images",),
        images=amazon.image_features,
    ),
    "amazon2018": Format(
        "Amazon reviews of 2018 as JSON lines, and metadata.",
        partial(amazon.read_reviews, keys=("reviewerID", "asin", "unixReviewTime", "overall")),
        partial(amazon.read_texts, key="asin"),
        id_column="asin",
    ),
    "amazon2023": Format(
        "Amazon reviews of 2023 as JSON lines, and metadata; an item is a parent_asin.",
        partial(amazon.read_reviews, keys=("user_id", "parent_asin", "timestamp", "rating")),
        partial(amazon.read_texts, key="parent_asin"),
        id_column="asin",
    ),
}
