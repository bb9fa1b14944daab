"""Features of items from their texts and images; every function returns a row per item and which items have one."""

import importlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rodpo_lite.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
THUMBNAIL = 8  # pixels on each side
DRAFT = 512  # pixels: a larger JPEG is decoded at a fraction of its size, but not below this
BLOCK = 256  # images that a model is given at a time
_VANISHED = 1e-6  # a shorter row says nothing: what is left of a text whose words all were left out


def require(module: str, package: str, purpose: str) -> Any:
    """An optional module; raises InputError with the command that installs it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(f"{purpose} need {package}, which is not installed: `pip install {package}`.") from None


def require_for(texts: Path | None, text_model: str | None, images: Path | None, image_model: str | None) -> None:
    """What features of these files will need; raises InputError for a library that is missing, before any work."""
    for model in (text_model, image_model):
        if model is not None:
            require("sentence_transformers", "sentence-transformers", f"Features by the model {model}")
    if texts is not None and text_model is None:
        require("sklearn", "scikit-learn", "Text features")
    if images is not None:
        require("PIL", "pillow", "Image features")


def text_features(texts: Sequence[str | None], dim: int = 128, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF with truncated SVD: unit rows, float32 [N, d], zero where there is no text, and which are not, [N].

    d is `dim`, or less where there are fewer texts or words; 0 without words. Raises InputError without scikit-learn.
    """
    algebra = require("sklearn.utils.extmath", "scikit-learn", "Text features")
    extraction = require("sklearn.feature_extraction.text", "scikit-learn", "Text features")
    has_words = np.array([bool(text and any(map(str.isalnum, text))) for text in texts])
    if not has_words.any():
        return np.zeros((len(texts), 0), np.float32), has_words
    # Single letters and digits count too: in short titles they tell one model from another.
    words = extraction.TfidfVectorizer(
        sublinear_tf=True, max_features=50_000, token_pattern=r"(?u)\w+", dtype=np.float32
    ).fit_transform(text for text, wordy in zip(texts, has_words) if wordy)
    left, values, _ = algebra.randomized_svd(words, min(dim, *words.shape), random_state=seed)
    return _place(left * values, has_words)


def encode_texts(texts: Sequence[str | None], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Texts by a model of sentence-transformers: unit rows, float32 [N, d], zero where there is none, and which, [N].

    Raises InputError where the library is missing or the model cannot be loaded.
    """
    model, present = _model(name), np.array([bool(text) for text in texts])
    if not present.any():
        return np.zeros((len(texts), 0), np.float32), present
    return _place(model.encode([text for text in texts if text], show_progress_bar=False), present)


def thumbnail_features(folder: Path, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images <id>.jpg, .png or .webp as 8 by 8 RGB pixels: unit rows, float32 [N, 192], and which items have one, [N].

    Each number is standardised over the images; a grey image counts as one more, so that a single one is not all mean.
    """
    rows, present = np.zeros((len(ids), 3 * THUMBNAIL**2)), np.zeros(len(ids), bool)
    for number, image in _images(folder, ids):
        rows[number] = np.asarray(image.resize((THUMBNAIL, THUMBNAIL)), float).ravel() / 255
        present[number] = True
    seen = np.vstack([rows[present], np.full(rows.shape[1], 0.5)])
    rows[present] = (rows[present] - seen.mean(0)) / seen.std(0)
    return _unit(rows)


def encode_images(folder: Path, ids: Sequence[str], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images by a CLIP model of sentence-transformers: unit rows, float32 [N, d], and which items have one, [N].

    Raises InputError where the library is missing or the model cannot be loaded.
    """
    model, images = _model(name), _images(folder, ids)
    blocks, present = [], np.zeros(len(ids), bool)
    while block := list(itertools.islice(images, BLOCK)):
        blocks.append(model.encode([image for _, image in block], show_progress_bar=False))
        present[[number for number, _ in block]] = True
    return _place(np.concatenate(blocks) if blocks else np.zeros((0, 0)), present)


def _model(name: str) -> Any:
    library = require("sentence_transformers", "sentence-transformers", f"Features by the model {name}")
    try:
        return library.SentenceTransformer(name)
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
        try:
            path = (home / f"{identity}{extension}").resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # not there, too long, a null character, links in a circle
            continue
        if path.is_relative_to(home) and path.is_file():
            return path
    return None


def _opened(library: Any, path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", library.DecompressionBombWarning)
            with library.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
                image.draft("RGB", (DRAFT, DRAFT))
                return image.convert("RGB")
    except Exception:  # Pillow raises many kinds for a file that is not a whole image
        return None


def _place(values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values [n, d] as unit rows where there is an item, [N, d], and which rows there are, [N]."""
    rows = np.zeros((len(present), values.shape[1]), np.float32)
    rows[present] = values
    return _unit(rows)


def _unit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of length one, float32, and which they are: rows that vanish are zero."""
    length = np.linalg.norm(rows, axis=1)
    present = length > _VANISHED
    rows = np.where(present[:, None], rows, 0) / np.where(present, length, 1)[:, None]
    return rows.astype(np.float32), present
