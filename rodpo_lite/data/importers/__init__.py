"""What people have, in the canonical format: one entry for each format that `rodpo data import` reads."""

from functools import partial

from rodpo_lite.data.importers import amazon, recbole, tables
from rodpo_lite.data.importers.request import Format

FORMATS: dict[str, Format] = {
    "csv": Format(
        "A table with a column for users and one for items, with any usual delimiter; another has the items' texts.",
        tables.read_csv,
        tables.read_csv_texts,
        uses=("user", "item", "time", "rating", "delimiter", "text"),
    ),
    "recbole": Format(
        "RecBole's atomic files: an .inter file or its folder; the token_seq columns of an .item file are the texts.",
        recbole.read,
        recbole.read_item_texts,
        uses=("user", "item", "time", "rating", "text"),
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
