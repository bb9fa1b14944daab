"""Features of items: unit rows that say something, nothing where there is nothing, and no file outside the folder."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from importing import PLAIN, imported, refused, table, write

from rodpo_lite.data import features
from rodpo_lite.errors import InputError


def test_texts_that_are_alike_have_features_that_are_alike(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(features, "DIM", 3)
    texts = [f"{colour} {thing}" for thing in ("chair of oak", "teapot") for colour in ("red", "blue")] + [
        None,
        "…",
        "",
    ]
    rows, present, _ = features.text_features(texts)
    assert present.tolist() == [True] * 4 + [False] * 3 and rows.shape == (7, 3)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1] * 4 + [0] * 3)
    assert rows[0] @ rows[1] > max(rows[0] @ rows[2], rows[0] @ rows[3]) + 0.2
    assert features.text_features(["a", None])[0].tolist() == [[1], [0]], "as many numbers as there are words"
    assert features.text_features([None, "!"])[0].shape == (2, 0)


@pytest.mark.parametrize("common", [150, 300])
def test_every_title_has_features_however_rare_its_words(common):
    """More words than directions: titles of one rare word each, some twice, among others that share their words."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    shared = [f"{a} {b}" for a, b in rng.choice([f"word{n}" for n in range(common)], (2000, 2))]
    rare = [f"rare{n // 2}" for n in range(400)]
    rows, present, _ = features.text_features([*shared, *rare, "rare0 rare7", "!"])
    assert present.tolist() == [True] * 2401 + [False] and rows.shape[1] == features.DIM
    assert np.linalg.norm(rows[:-1], axis=1) == pytest.approx(1, abs=1e-5)
    alone = rows[2000:2400]
    assert (alone[::2] * alone[1::2]).sum(1) == pytest.approx(1, abs=1e-5), "two titles of the same word are alike"
    assert np.abs(alone[::2] @ alone[::2].T - np.eye(200)).max() < 0.6, "and those of others are not"
    assert rows[2400] @ alone[0] > 0.5 and rows[2400] @ alone[14] > 0.5


def test_images_in_a_folder_never_lead_out_of_it(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    folder, outside = tmp_path / "images", tmp_path / "secret.png"
    folder.mkdir()
    pillow.new("RGB", (20, 10), (200, 30, 30)).save(outside)
    pillow.new("RGB", (20, 10), (200, 30, 30)).save(folder / "red.jpg")
    pillow.new("RGBA", (9, 9), (0, 0, 250, 128)).save(folder / "blue.png")
    pillow.new("L", (9, 9), 90).save(folder / "grey.webp")
    pillow.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:1500])
    (folder / "link.png").symlink_to(outside)
    (folder / "circle.png").symlink_to(folder / "circle.png")
    ids = [
        "red",
        "blue",
        "grey",
        "cut",
        "link",
        "circle",
        "../secret",
        str(outside.with_suffix("")),
        "no",
        "n\0",
        "n" * 999,
    ]
    rows, present, _ = features.image_features(folder, ids)
    assert present.tolist() == [True] * 3 + [False] * 8 and not rows[3:].any()
    assert np.linalg.norm(rows[:3], axis=1) == pytest.approx(1) and rows.shape == (11, 192)
    assert rows[0, 0] > 0 > rows[0, 2] and rows[1, 2] > 0 > rows[1, 0]

    source = write(tmp_path / "a.csv", table([("u", i, n) for n, i in enumerate(ids[:9])]))
    dataset, _, lines = imported(source, image_folder=folder)
    assert dataset.present["image"].sum() == 3 and lines == ["without image: 6 of 9 items"]


def test_a_single_image_is_not_all_mean(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (20, 10), (200, 30, 30)).save(tmp_path / "red.png")
    rows, present, _ = features.image_features(tmp_path, ["red", "none"])
    assert present.tolist() == [True, False] and np.linalg.norm(rows[0]) == pytest.approx(1)


def test_a_library_that_is_missing_is_named_with_its_command(tmp_path, monkeypatch):
    for module in ("sklearn", "PIL", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    source = write(tmp_path / "a.csv", table(PLAIN))
    refused(source, "`pip install scikit-learn`", items=source)
    refused(source, "`pip install pillow`", image_folder=tmp_path)
    refused(source, "Features by the model m need .*`pip install sentence-transformers`", items=source, text_model="m")


class Stub:
    """A model that knows how long a text is, and how wide an image."""

    def encode(self, inputs, show_progress_bar):
        return np.array([[len(item), 1] if isinstance(item, str) else [item.width, 1] for item in inputs], np.float32)


def load(name: str) -> Stub:
    if name != "stub":
        raise OSError(f"{name} is not a model.\nSee the manual.")
    return Stub()


def test_a_model_takes_the_place_of_words_and_thumbnails(tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=load))
    monkeypatch.setattr(features, "BLOCK", 2)
    for number, item in enumerate(("pear", "fig", "plum")):
        pillow.new("RGB", (number + 1, 1)).save(tmp_path / f"{item}.png")
    source = write(tmp_path / "a.csv", table(PLAIN))
    items = write(tmp_path / "items.csv", "id,title\npear,a\nplum,abc\n")
    dataset, _, lines = imported(source, items=items, image_folder=tmp_path, text_model="stub", image_model="stub")
    expected = {"text": [[1, 1], None, None, [3, 1]], "image": [[1, 1], [2, 1], None, [3, 1]]}
    for modality, rows in expected.items():
        assert dataset.present[modality].tolist() == [row is not None for row in rows]
        unit = [np.divide(row, np.linalg.norm(row)) if row else [0, 0] for row in rows]
        assert dataset.features[modality] == pytest.approx(np.array(unit), abs=1e-3)
        assert "stub" in dataset.manifest["modalities"][modality]["origin"]
    assert lines == ["without text: 2 of 4 items", "without image: 1 of 4 items"]
    with pytest.raises(InputError, match=r"The model other cannot be loaded .*: other is not a model\.$"):
        features.text_features(["a"], "other")
