"""Public logs as they are published, made in the same shape and with the same quirks, each by one import."""

import json

import pandas as pd
import pytest
from import_cases import log, sequences, store
from importing import imported, refused, write

from rodpo_lite.errors import Notice

pytestmark = pytest.mark.filterwarnings("ignore::rodpo_lite.errors.Notice")
ROWS = log()
RIGHT = sequences(ROWS)
NUMBERED = [[item[1:] for item in sequence] for sequence in RIGHT]
FILMS = ["Amélie", "8½", "M*A*S*H", "Se7en", "Up", '"Great Performances" Cats', "Alien³", "Léon: The Professional"]


def film(n: int) -> str:
    return f"{FILMS[n % 8]} ({1950 + n})"


def iso(row) -> pd.Timestamp:
    return pd.Timestamp(row.time, unit="s")


def test_movielens_1m_with_its_films(tmp_path):
    pytest.importorskip("sklearn")
    ratings = store(tmp_path / "ratings.dat", [(u[1:], i[1:], 4, t) for u, i, t in ROWS], None, "::")
    films = [(n, film(n), "Animation|Children's|Comedy") for n in range(40)]
    items = store(tmp_path / "movies.dat", films, None, "::", encoding="cp1252")
    with pytest.warns(Notice, match="no header; its columns are taken as those of MovieLens"):
        dataset, found, lines = imported(ratings, items=items)
    assert found == NUMBERED and lines == []
    assert dataset.titles[0] == f"{film(int(dataset.item_ids[0]))}. Animation|Children's|Comedy"


def test_movielens_100k_with_its_films(tmp_path):
    pytest.importorskip("sklearn")
    ratings = store(tmp_path / "u.data", [(u[1:], i[1:], 4, t) for u, i, t in ROWS], None, "\t")
    films = [(n, film(n), "01-Jan-1995", "", f"http://us.imdb.com/M/title-exact?{n}", 0, 1) for n in range(40)]
    dataset, found, lines = imported(ratings, items=store(tmp_path / "u.item", films, None, "|", encoding="cp1252"))
    assert found == NUMBERED and lines == []
    assert dataset.titles[0] == film(int(dataset.item_ids[0])) + ". 01-Jan-1995", "no addresses"


def test_movielens_latest(tmp_path):
    pytest.importorskip("sklearn")
    ratings = store(
        tmp_path / "ratings.csv",
        [(u[1:], i[1:], 4.5, t) for u, i, t in ROWS],
        ("userId", "movieId", "rating", "timestamp"),
    )
    films = [
        (n, f'"{film(n)}, The"'.replace('"Great Performances"', '""Great Performances""'), "Comedy") for n in range(40)
    ]
    items = store(tmp_path / "movies.csv", films, ("movieId", "title", "genres"))
    dataset, found, lines = imported(ratings, items=items, min_rating=4.0)
    assert found == NUMBERED and lines == [] and dataset.titles[0] == f"{film(int(dataset.item_ids[0]))}, The. Comedy"


def test_lastfm_whose_counts_have_no_times(tmp_path):
    """user_artists.dat is sorted by user and artist, and artists.dat has two columns of addresses."""
    pytest.importorskip("sklearn")
    rows = sorted({(int(u[1:]), int(i[1:])) for u, i, _ in ROWS})
    plays = store(
        tmp_path / "user_artists.dat", [(*row, 13883) for row in rows], ("userID", "artistID", "weight"), "\t"
    )
    names = [
        (n, f"Sigur Rós {n}", f"http://www.last.fm/music/{n}", f"http://userserve-ak/252/{n}.jpg") for n in range(40)
    ]
    artists = store(tmp_path / "artists.dat", names, ("id", "name", "url", "pictureURL"), "\t")
    with pytest.warns(Notice, match="has no time column"):
        dataset, found, lines = imported(plays, items=artists)
    assert sum(map(len, found)) == len(rows) and lines == []
    assert dataset.titles[0] == f"Sigur Rós {dataset.item_ids[0]}"
    assert "their items ascend; their order is a hash" in dataset.manifest["account"][1]


def test_book_crossing(tmp_path):
    """Quoted throughout, with semicolons, in Latin-1, with quotes after backslashes."""
    pytest.importorskip("sklearn")
    rows = [(f'"{u[1:]}"', f'"{i[1:]:0>10}"', f'"{n % 11}"') for n, (u, i, _) in enumerate(ROWS)]
    ratings = store(tmp_path / "BX-Book-Ratings.csv", rows, ('"User-ID"', '"ISBN"', '"Book-Rating"'), ";", "latin-1")
    books = [
        (
            f'"{n:010}"',
            f'"Le \\"grand\\" été; {n}"',
            '"C. O\'Brien"',
            '"2002"',
            f'"http://images.amazon.com/{n}.01.jpg"',
        )
        for n in range(40)
    ]
    head = ('"ISBN"', '"Book-Title"', '"Book-Author"', '"Year-Of-Publication"', '"Image-URL-S"')
    dataset, found, lines = imported(ratings, items=store(tmp_path / "BX-Books.csv", books, head, ";", "latin-1"))
    assert sum(map(len, found)) == len(ROWS) and lines == []
    assert dataset.titles[0] == f'Le "grand" été; {int(dataset.item_ids[0])}. C. O\'Brien'


@pytest.mark.parametrize("order", ["%-m/%-d/%Y %-H:%M", "%d/%m/%Y %H:%M", "%Y-%m-%d %H:%M:%S"])
def test_an_online_shop(order, tmp_path):
    """As Online Retail: customers that are fractions and missing, days that other days tell from months."""
    rows = [
        (536365 + n, i, '"WHITE, ""METAL"" LANTERN"', 6, (iso(row) + pd.Timedelta(n % 20, unit="D")).strftime(order),
         2.55, f"{12000 + int(u[1:])}.0" if n % 10 else "", "United Kingdom")
        for n, row in enumerate(ROWS) for u, i, _ in [row]
    ]  # fmt: skip
    head = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "Customer ID", "Country")
    dataset, found, lines = imported(store(tmp_path / "online.csv", rows, head))
    assert lines == ["dropped: rows without user (24)"]
    assert sum(map(len, found)) == len(ROWS) - 24 and dataset.user_ids[:2] == ["12000", "12001"]
    assert dataset.first_time >= iso(ROWS[0]).timestamp() - 86_400


def test_diginetica(tmp_path):
    """Sessions rather than users, who are mostly not known."""
    rows = [
        (u[1:], "NA" if int(u[1:]) % 3 else u[1:], i[1:], (t - ROWS[0].time) * 1000, iso(row).date())
        for row in ROWS
        for u, i, t in [row]
    ]
    source = store(
        tmp_path / "train-item-views.csv", rows, ("sessionId", "userId", "itemId", "timeframe", "eventdate"), ";"
    )
    _, found, lines = imported(source)
    assert len(found) == 10 and lines == ["dropped: rows without user (160)"]
    dataset, found, lines = imported(source, user="sessionId")
    assert len(found) == 30 and lines == []
    assert "100.0 % of neighbours have the same time" in dataset.manifest["account"][2]


def test_amazon_2023(tmp_path):
    pytest.importorskip("sklearn")
    reviews = [
        {"rating": 5.0, "title": "Such", "text": "fine", "images": [], "asin": "V", "parent_asin": i, "user_id": u,
         "timestamp": 1000 * t + 17, "helpful_vote": 0, "verified_purchase": True}
        for u, i, t in ROWS
    ]  # fmt: skip
    about = [
        {"main_category": "All Beauty", "title": f"Lotion {n}", "parent_asin": f"i{n}", "price": None}
        for n in range(40)
    ]
    paths = [
        write(tmp_path / name, "".join(json.dumps(record) + "\n" for record in records))
        for name, records in (("reviews.jsonl", reviews), ("meta.jsonl", about))
    ]
    dataset, found, lines = imported(paths[0], "amazon2023", items=paths[1])
    assert found == RIGHT and lines == [] and dataset.titles[0] == f"Lotion {dataset.item_ids[0][1:]}"
    as_table, found, _ = imported(paths[0], item="parent_asin")
    assert found == RIGHT and as_table.timestamps.tolist() == dataset.timestamps.tolist()


# RecBole


TYPES = ("user_id:token", "item_id:token", "timestamp:float")


def test_recbole_titles_and_brands_are_texts_whatever_their_type(tmp_path):
    pytest.importorskip("sklearn")
    folder = tmp_path / "Amazon_Toys"
    folder.mkdir()
    store(folder / "Amazon_Toys.inter", ROWS, TYPES, "\t")
    head = ["item_id:token", "title:token", "price:float", "brand:token", "categories:token_seq", "image:token"]
    items = [
        (f"i{n}", f"Wooden Train {n}", 9.5, "Acme", "Toys, Trains", f"https://images.com/I/{n}.jpg") for n in range(40)
    ]
    store(folder / "Amazon_Toys.item", items, head, "\t")
    dataset, found, lines = imported(folder, "recbole")
    assert found == RIGHT and lines == []
    assert dataset.titles[0] == f"Wooden Train {dataset.item_ids[0][1:]}. Acme. Toys, Trains"
    assert imported(folder, "recbole", text=("brand",))[0].titles[0] == "Acme"


@pytest.mark.parametrize("separator", [" ", "   ", ",", "\t", ";"])
def test_recbole_with_other_separators(separator, tmp_path):
    assert imported(store(tmp_path / "steam.inter", ROWS, TYPES, separator), "recbole")[1] == RIGHT


@pytest.mark.parametrize(
    "types", [("user_id", "item_id", "timestamp"), ("user_id:token", "item_id", "timestamp:float")]
)
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_recbole_without_types_says_which_format_to_use(types, separator, tmp_path):
    source = store(tmp_path / "a.inter", ROWS, types, separator)
    refused(source, "must be a name and a type, .*; a table without types is read with the format csv", "recbole")
    refused(
        store(tmp_path / "b.inter", ROWS, (*TYPES[1:], "x:token"), "\t"),
        "has no user column; .*: name what is missing with --user NAME",
        "recbole",
    )


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("parts", [("train", "valid", "test"), ("train", "test")])
def test_recbole_parts_that_are_split_already_are_one_log(parts, timed, tmp_path):
    folder = tmp_path / "ml"
    folder.mkdir()
    columns = TYPES if timed else TYPES[:2]
    chunks = [[row for n, row in enumerate(ROWS) if (n % 8 >= 6) + (n % 8 >= 7) == part] for part in range(3)]
    chunks = chunks if len(parts) == 3 else [chunks[0] + chunks[1], chunks[2]]
    for part, chunk in zip(parts, chunks):
        store(folder / f"ml.{part}.inter", [row[: len(columns)] for row in chunk], columns, "\t")
    store(folder / "ml.item", [(f"i{n}", f"thing {n}") for n in range(40)], ("item_id:token", "title:token_seq"), "\t")
    dataset, found, _ = imported(folder, "recbole")
    assert found == RIGHT and dataset.titles[0] == f"thing {dataset.item_ids[0][1:]}"
    assert len(imported(folder / "ml.train.inter", "recbole")[0].items) == len(chunks[0])
    store(folder / "other.train.inter", ROWS, columns, "\t")
    refused(folder, r"several .inter files in .*name one of them as SOURCE \(ml.test.inter, ml.train.inter", "recbole")


def test_recbole_parts_have_the_same_columns_and_errors_name_theirs(tmp_path):
    folder = tmp_path / "ml"
    folder.mkdir()
    store(folder / "ml.train.inter", ROWS, TYPES, "\t")
    store(folder / "ml.test.inter", [("u0", "i0", "soon")], TYPES, "\t")
    refused(folder, "ml.test.inter: the time 'soon' in line 2 is not valid", "recbole")
    store(folder / "ml.test.inter", [("u0", "i0")], TYPES[:2], "\t")
    refused(folder, "ml.test.inter has other columns than .*ml.train.inter, of which it is a part", "recbole")


# texts


def test_texts_are_words_and_no_addresses_keys_or_dates(tmp_path):
    pytest.importorskip("sklearn")
    head = ("item_id", "title", "url", "key", "hash", "picture", "since", "price", "rare")
    rows = [
        (f"i{n}", f"Lamp {n} www.shop.com/x see https://a.b/c", f"https://shop.com/item/{n}",
         f"{n:08x}-09ab-4cde-8f01-{n:012x}", f"{n:032x}", f"img/{n}.JPG", f"2014-05-{1 + n % 28:02}T10:00:00Z",
         f"{n}.99 ", f"word{chr(97 + n % 26)}{n}")
        for n in range(40)
    ]  # fmt: skip
    dataset, _, lines = imported(store(tmp_path / "a.csv", ROWS), items=store(tmp_path / "items.csv", rows, head))
    number = int(dataset.item_ids[0][1:])
    assert lines == [] and dataset.titles[0] == f"Lamp {number} see. word{chr(97 + number % 26)}{number}"
