"""The canonical format: what is written is read back, and every kind of broken folder is named in one sentence."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from rodpo_lite.cli import main
from rodpo_lite.data.schema import read_dataset, write_dataset
from rodpo_lite.data.split import leave_one_out
from rodpo_lite.data.synthetic import Oracle, WorldSizes, synthesise
from rodpo_lite.errors import InputError


def edit_manifest(folder: Path, change) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    change(manifest)
    (folder / "dataset.json").write_text(json.dumps(manifest))


def unlist(manifest) -> None:
    """Drop checksums, so that a later check is reached."""
    manifest["files"] = {}
    for count in ("n_users", "n_items", "n_interactions"):
        manifest.pop(count)


def edit_table(name, change):
    def apply(folder: Path) -> None:
        change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)
        edit_manifest(folder, unlist)

    return apply


edit_interactions = partial(edit_table, "interactions.parquet")
edit_items = partial(edit_table, "items.parquet")


def edit_features(change):
    def apply(folder: Path) -> None:
        path = folder / "features" / "text.npy"
        np.save(path, change(np.load(path)))
        edit_manifest(folder, unlist)

    return apply


def repeat_column(folder: Path) -> None:
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.append_column("item", table["item"]), folder / "items.parquet")
    edit_manifest(folder, unlist)


def with_value(column, row, value):
    def change(frame):
        frame.loc[row, column] = value
        return frame

    return change


def with_users(**columns):
    def breaks(folder):
        pd.DataFrame(columns).to_parquet(folder / "users.parquet")

    return breaks


def with_nan(rows):
    rows[4, 2] = np.nan
    return rows


BROKEN = {
    "no manifest": (lambda f: (f / "dataset.json").unlink(), "dataset.json is missing"),
    "manifest is not JSON": (lambda f: (f / "dataset.json").write_text("{"), "not valid JSON"),
    "unknown version": (lambda f: edit_manifest(f, lambda m: m.update(format_version=2)), "format_version 2"),
    "missing file": (lambda f: (f / "items.parquet").unlink(), "items.parquet is missing"),
    "missing features": (lambda f: (f / "features" / "text.npy").unlink(), "features/text.npy is missing"),
    "wrong checksum": (lambda f: (f / "items.parquet").open("ab").write(b"x"), "does not match its checksum"),
    "file outside": (
        lambda f: edit_manifest(f, lambda m: m["modalities"]["text"].update(file="../text.npy")),
        "outside the dataset folder",
    ),
    "not parquet": (
        lambda f: ((f / "items.parquet").write_text("no"), edit_manifest(f, unlist)),
        "not a readable parquet file",
    ),
    "no column": (edit_interactions(lambda x: x.drop(columns="item")), "no column 'item'"),
    "a column twice": (repeat_column, "items.parquet"),
    "wrong dtype": (edit_interactions(lambda x: x.astype({"item": float})), "'item' is double, but must be int32"),
    "wrong dtype of times": (
        edit_interactions(lambda x: x.assign(timestamp=x.position * 1.5)),
        "'timestamp' is double, but must be int64",
    ),
    "missing values": (
        edit_interactions(lambda x: with_value("item", 3, pd.NA)(x.astype({"item": "Int32"}))),
        "'item' has missing values, but must be int32",
    ),
    "wrong mask dtype": (edit_items(lambda x: x.astype({"has_text": float})), "'has_text' is double, but must be bool"),
    "negative position": (edit_interactions(with_value("position", 0, -1)), "'position' has a value out of range: -1"),
    "item out of range": (edit_interactions(with_value("item", 3, 40)), "item 40 in row 3 is out of range"),
    "duplicate position": (
        edit_interactions(with_value("position", 1, 0)),
        "user 0 has two interactions at position 0",
    ),
    "gap in users": (edit_interactions(lambda x: x[x.user != 7]), "user 7 is missing"),
    "two items": (
        edit_interactions(lambda x: x[(x.user != 7) | (x.position < 2)]),
        "user 7 has 2 interactions, but leave-one-out needs at least 3",
    ),
    "empty": (edit_interactions(lambda x: x.iloc[:0]), "has no interactions"),
    "items out of order": (edit_items(lambda x: x.iloc[::-1]), "must be 0, 1, 2"),
    "NaN feature": (edit_features(with_nan), "the text features of item 4 are not finite"),
    "name that is a path": (
        lambda f: edit_manifest(f, lambda m: m.update(name="../x")),
        "the name '../x' must be made",
    ),
    "modality without a file": (
        lambda f: edit_manifest(f, lambda m: m["modalities"]["text"].update(file=5)),
        "modalities must map",
    ),
    "nothing to learn": (edit_interactions(lambda x: x[x.position < 3]), "at least one user needs four interactions"),
    "wrong feature dtype": (edit_features(lambda x: x.astype(np.float32)), "holds float32"),
    "feature rows": (edit_features(lambda x: x[:-1]), "shape (39, 6), but there are 40 items"),
    "feature columns": (edit_features(lambda x: x[:, :5]), "has 5 columns, but dataset.json says dim 6"),
    "users without ids": (with_users(user=range(60)), "users.parquet has no column 'id'"),
    "ids that are no texts": (with_users(user=range(60), id=range(60)), "the column id must hold texts"),
    "users that are lists": (with_users(user=[[n] for n in range(60)], id="x"), "the column user must be 0, 1, 2, …"),
    "users in a folder": (lambda f: (f / "users.parquet").mkdir(), "users.parquet is not a file"),
    "a link to nothing": (lambda f: (f / "users.parquet").symlink_to(f / "nowhere"), "users.parquet is not a file"),
    "an archive": (
        lambda f: (
            np.savez(f / "a", x=np.ones(3)),
            (f / "a.npz").rename(f / "features" / "text.npy"),
            edit_manifest(f, unlist),
        ),
        "text.npy is not a readable .npy array",
    ),
    "nested JSON": (lambda f: (f / "dataset.json").write_text("[" * 100_000), "not valid JSON"),
    "a long version": (
        lambda f: edit_manifest(f, lambda m: m.update(format_version="9" * 9999)),
        "has format_version '999",
    ),
    "ids of other users": (
        with_users(user=range(1, 61), id="x"),
        "the column user must be 0, 1, 2, … in order, one row",
    ),
    "wrong count": (lambda f: edit_manifest(f, lambda m: m.update(n_users=59)), "n_users 59, but the files hold 60"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_named_in_one_sentence(kind, plain_folder, tmp_path, monkeypatch, capsys):
    """By command: exit code 2, one sentence, and no run folder."""
    breaks, expected = BROKEN[kind]
    breaks(plain_folder)
    monkeypatch.setattr("sys.argv", ["rodpo", "train", "--data", str(plain_folder), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert caught.value.code == 2 and printed.out == ""
    assert expected in printed.err
    assert printed.err.endswith(".\n") and printed.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_there():
    with pytest.raises(InputError, match="There is no dataset folder"):
        read_dataset(Path("nowhere"))


def test_what_was_written_is_read_back(tmp_path):
    interactions = pd.DataFrame(
        {"user": [1, 0, 0, 1, 0, 1], "item": [2, 0, 1, 1, 2, 0], "position": [5, 2, 0, 7, 1, 6], "timestamp": range(6)}
    )
    items = pd.DataFrame({"item": [0, 1, 2], "text": ["a", None, "c"]})
    features = {"text": np.eye(3)}
    dataset = read_dataset(write_dataset(tmp_path / "d", "tiny", interactions, items, features))
    assert dataset.items.tolist() == [1, 2, 0, 2, 0, 1]
    assert dataset.offsets.tolist() == [0, 3, 6]
    assert dataset.timestamps.tolist() == [2, 4, 1, 0, 5, 3]
    assert dataset.titles == ["a", "item 1", "c"]
    named = write_dataset(tmp_path / "n", "tiny", interactions, items.assign(id=["x", "y", "z"]), features)
    assert read_dataset(named).titles == ["a", "y", "c"], "the id where it came from is better than a number"
    assert dataset.item_ids == ["0", "1", "2"] and dataset.user_ids == ["0", "1"], "where no ids are known"
    assert np.array_equal(dataset.features["text"], np.eye(3))


def test_an_invalid_dataset_is_not_written(tmp_path):
    interactions = pd.DataFrame({"user": [0, 0], "item": [0, 1], "position": [0, 1]})
    with pytest.raises(InputError, match="user 0 has 2 interactions"):
        write_dataset(tmp_path / "d", "bad", interactions, pd.DataFrame({"item": [0, 1]}))
    assert list(tmp_path.iterdir()) == []


def test_leave_one_out_holds_out_the_last_two(tmp_path):
    interactions = pd.DataFrame({"user": [0] * 3 + [1] * 5, "item": range(8), "position": [0, 1, 2, 0, 1, 2, 3, 4]})
    dataset = read_dataset(write_dataset(tmp_path / "d", "tiny", interactions, pd.DataFrame({"item": range(8)})))
    split = leave_one_out(dataset)
    assert split.train_end.tolist() == [1, 6]
    for part, targets in (("valid", [1, 6]), ("test", [2, 7])):
        start, end = split.history(part)
        assert start.tolist() == [0, 3]
        assert dataset.items[end].tolist() == targets


def test_the_synthetic_world_is_reproducible_and_keeps_its_truth(tmp_path):
    sizes = WorldSizes(users=300, items=200, slate=40)
    folders = [synthesise(tmp_path / name, 11, sizes) for name in "ab"]
    first, second = (read_dataset(folder) for folder in folders)
    assert first.manifest["files"] == second.manifest["files"]
    assert read_dataset(synthesise(tmp_path / "c", 12, sizes)).manifest["files"] != first.manifest["files"]
    oracle = Oracle.of(first, folders[0])
    assert oracle.relevance.shape == (300, 4, 200)
    assert oracle.relevance.mean() == pytest.approx(sizes.relevant_share, rel=0.1)
    users = np.repeat(np.arange(300), first.lengths)
    assert oracle.relevance[users, oracle.phase, first.items].mean() > 0.8, "people mostly take what is relevant"
    assert first.lengths.min() >= 5
    assert not pd.DataFrame({"u": users, "i": first.items}).duplicated().any()
    assert not first.present["image"].all(), "some items have no image: a missing modality is normal input"


def test_a_world_does_not_depend_on_how_a_processor_partitions(tmp_path, monkeypatch):
    """NumPy leaves both sides of a partition in an order of its own, another one with AVX2 than with AVX-512."""
    sizes = WorldSizes(users=50, items=120)
    synthesise(tmp_path / "first", 1, sizes)
    partition = np.argpartition

    def reordered(values, at, axis):
        order = partition(values, at, axis=axis)
        return np.concatenate([order[:, :at][:, ::-1], order[:, at:][:, ::-1]], axis=1)

    monkeypatch.setattr(np, "argpartition", reordered)
    synthesise(tmp_path / "second", 1, sizes)
    first, second = (read_dataset(tmp_path / name) for name in ("first", "second"))
    assert first.manifest["files"] == second.manifest["files"]


def test_only_a_synthetic_world_has_an_oracle(plain_folder):
    with pytest.raises(InputError, match="has no oracle"):
        Oracle.of(read_dataset(plain_folder), plain_folder)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [("toys", 19412, 11924, 167597), ("beauty", 22363, 12101, 198502), ("sports", 35598, 18357, 296337)],
)
def test_the_real_datasets_have_their_published_sizes(real_data, name, users, items, interactions):
    dataset = read_dataset(real_data / name)
    assert (dataset.n_users, dataset.n_items, len(dataset.items)) == (users, items, interactions)


@pytest.mark.parametrize("seed", ["abc", 1.5, -1])
def test_a_world_needs_a_whole_number_as_its_seed(tmp_path, seed):
    with pytest.raises(InputError, match="whole number from 0 on"):
        synthesise(tmp_path / "world", seed)
    assert not (tmp_path / "world").exists()
