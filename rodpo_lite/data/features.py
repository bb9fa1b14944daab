"""Features of items from their texts and images; every function returns a row per item and which items have one."""

import importlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rodpo_lite.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
DIM = 128  # numbers that TF-IDF of a text is reduced to
THUMBNAIL = 8  # pixels on each side
DRAFT = 512  # pixels: a larger JPEG is decoded at a fraction of its size, but not below this
BLOCK = 256  # images that a model is given at a time
FAINT = 0.1  # of the length of a text: less of it than so is hardly more than the noise of the algorithm
_VANISHED = 1e-6  # a shorter row says nothing: what is left of a text whose words all were left out
Made = tuple[np.ndarray, np.ndarray, str]  # unit rows, float32 [N, d], zero where there is none; which; how


def require(module: str, package: str, purpose: str) -> Any:
    """An optional module; raises InputError with the command that installs it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{purpose} need {package}, which is not installed: `pip install {package}`.") from None


def text_features(texts: Sequence[str | None], model: str | None = None) -> Made:
    """Texts by a model of sentence-transformers or, without one, by TF-IDF with truncated SVD, d ≤ DIM numbers."""
    encode, counts = (_weigh_words, str.isalnum) if model is None else (_model(model), bool)  # which letters count
    present = np.array([bool(text) and any(map(counts, text)) for text in texts])
    blocks = [encode([text for text, there in zip(texts, present) if there])] if present.any() else []
    how = "truncated SVD of TF-IDF of" if model is None else f"{model} on"
    return _place(blocks, present, f"{how} the item's text")


def image_features(folder: Path, ids: Sequence[str], model: str | None = None) -> Made:
    """Images <id>.jpg, .png or .webp by a CLIP model of sentence-transformers or, without one, as 8 by 8 RGB pixels.

    Each number of the latter is standardised over the images; a grey image counts as one more, so that a single one is
    not all mean.
    """
    encode = _shrink if model is None else _model(model)
    images, blocks, present = _images(folder, ids), [], np.zeros(len(ids), bool)
    while block := list(itertools.islice(images, BLOCK)):
        blocks.append(encode([image for _, image in block]))
        present[[number for number, _ in block]] = True
    if model is None:
        seen = np.vstack([*blocks, np.full(3 * THUMBNAIL**2, 0.5)])
        blocks = [((seen - seen.mean(0)) / seen.std(0))[:-1]]
    how = "8 by 8 RGB thumbnails, standardised" if model is None else f"{model} on the item's image"
    return _place(blocks, present, how)


def _weigh_words(texts: list[str]) -> np.ndarray:
    """TF-IDF of the words of texts, reduced by truncated SVD, float32 [n, d].

    A text whose words are all too rare to be among the d directions has the sum of a random direction for each word.
    """
    algebra = require("sklearn.utils.extmath", "scikit-learn", "Text features")
    extraction = require("sklearn.feature_extraction.text", "scikit-learn", "Text features")
    # Single letters and digits count too: in short titles they tell one model from another.
    options = {"sublinear_tf": True, "token_pattern": r"(?u)\w+", "dtype": np.float32}
    words = extraction.TfidfVectorizer(max_features=50_000, **options).fit_transform(texts)
    left, values, _ = algebra.randomized_svd(words, min(DIM, *words.shape), random_state=0)
    rows = left * values
    if (lost := np.flatnonzero(np.linalg.norm(rows, axis=1) < FAINT)).size:
        rare = extraction.TfidfVectorizer(**options).fit_transform([texts[row] for row in lost])
        rows[lost] = rare @ np.random.default_rng(0).standard_normal((rare.shape[1], rows.shape[1]), np.float32)
    return rows


def _shrink(images: list[Any]) -> np.ndarray:
    """Pixels of thumbnails, from 0 to 1, [n, 192]."""
    return np.array([np.asarray(image.resize((THUMBNAIL, THUMBNAIL)), float).ravel() / 255 for image in images])


def _model(name: str) -> Callable[[list[Any]], np.ndarray]:
    """What a model makes of texts or images, [n, d]; raises InputError if it cannot be loaded."""
    library = require("sentence_transformers", "sentence-transformers", f"Features by the model {name}")
    try:
        return partial(library.SentenceTransformer(name).encode, show_progress_bar=False)
    except Exception as error:  # of the network, the file system, the model's own code
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"The model {name} cannot be loaded by sentence-transformers: {reason}.") from None


def _images(folder: Path, ids: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The number and the image of each item that has a readable one, RGB."""
    library = require("PIL.Image", "pillow", "Image features")
    home = folder.resolve()
    for number, identity in enumerate(ids):
        if (path := _inside(home, identity)) and (image := _opened(library, path)):
            yield number, image


def _inside(home: Path, identity: str) -> Path | None:
    """The file of an item; None if there is none, or if a link or the id itself leads out of the folder."""
    for extension in EXTENSIONS:
        with suppress(OSError, ValueError, RuntimeError):  # not there, too long, a null character, links in a circle
            path = (home / f"{identity}{extension}").resolve(strict=True)
            if path.is_relative_to(home) and path.is_file():
                return path
    return None


def _opened(library: Any, path: Path) -> Any:
    with suppress(Exception), warnings.catch_warnings():  # Pillow raises many kinds for what is not a whole image
        warnings.simplefilter("error", library.DecompressionBombWarning)
        with library.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
            image.draft("RGB", (DRAFT, DRAFT))
            return image.convert("RGB")
    return None


def _place(blocks: list[np.ndarray], present: np.ndarray, how: str) -> Made:
    """Blocks of n values in all, [n, d], as unit rows where there is an item, those that do not vanish."""
    values = np.concatenate(blocks) if blocks else np.zeros((0, 0))
    rows = np.zeros((len(present), values.shape[1]), np.result_type(values, np.float32))
    rows[present] = values
    length = np.linalg.norm(rows, axis=1)
    present = length > _VANISHED
    rows = np.where(present[:, None], rows, 0) / np.where(present, length, 1)[:, None]
    return rows.astype(np.float32), present, f"{how}, unit rows"
