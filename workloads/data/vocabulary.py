"""Raw columns to ids and dense values, and the stratified split: what the adapters of click logs share."""

from __future__ import annotations

from typing import Any

import numpy as np

from pimsim.errors import DataError
from workloads.data.tables import SPLITS, Schema, Split, Tables

_MISSING = ""


def stratified_split(label: np.ndarray, seed: int = 2018) -> dict[str, np.ndarray]:
    """Row numbers (ascending) of an 80/10/10 split with equal shares of positives.

    Folds 0-7 of scikit-learn's `StratifiedKFold(10, shuffle=True, random_state=seed)` train, fold 8 validates, fold 9 tests:
    the split of AutoCTR and NASRec, without the off-by-one of the latter's code.

    Raises:
        DataError: fewer than ten rows of a class.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(label, minlength=2)
    if counts.min() < 10:
        raise DataError(f"a stratified split needs ten rows of each class at least, found {counts[0]} and {counts[1]}")
    folds = [test for _, test in StratifiedKFold(10, shuffle=True, random_state=seed).split(label, label)]
    return {"train": np.sort(np.concatenate(folds[:8])), "valid": folds[8], "test": folds[9]}


def build_ids(column: Any, train: np.ndarray, min_count: int) -> tuple[np.ndarray, int]:
    """Ids of a categorical column by descending frequency in the training rows.

    Id 0 is out-of-vocabulary: values seen fewer than `min_count` times in training. A missing value counts as a value of its
    own. Ties are broken by the value's text.

    Args:
        column: pyarrow (chunked) array of text or integers.
        train: row numbers of the training split; no other row decides what is in the vocabulary.
        min_count: fewest training rows of a known value.

    Returns:
        (rows,) int32 ids, and the cardinality (known values + 1).
    """
    import pyarrow as pa

    encoded = column.cast(pa.string()).fill_null(_MISSING).combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    values = np.array(encoded.dictionary.to_pylist(), dtype=np.str_)
    counts = np.bincount(codes[train], minlength=len(values))
    order = np.lexsort((values, -counts))
    known = order[counts[order] >= min_count]
    ids = np.zeros(len(values), dtype=np.int32)
    ids[known] = np.arange(1, len(known) + 1)
    return ids[codes], len(known) + 1


def log_dense(column: Any) -> np.ndarray:
    """`log(1 + max(0, x))` of a numeric column, 0 where missing; (rows,) float32."""
    import pyarrow as pa

    values = column.cast(pa.float64()).fill_null(0).to_numpy()
    return np.log1p(np.maximum(values, 0)).astype(np.float32)


def click_log(table: Any, label: np.ndarray, dense: dict[str, str], sparse: dict[str, Any], min_count: int, seed: int) -> Tables:
    """A click log as tables: stratified split, vocabularies of the training rows, log-scaled dense values.

    Args:
        table: pyarrow table with the dense columns.
        label: (rows,) 0 or 1.
        dense: {field name: column of `table`}.
        sparse: {field name: pyarrow array}.
        min_count: see `build_ids`.
        seed: see `stratified_split`.
    """
    rows = stratified_split(label, seed)
    ids, cardinalities, unknown = [], [], {}
    for name, column in sparse.items():
        column_ids, cardinality = build_ids(column, rows["train"], min_count)
        ids.append(column_ids)
        cardinalities.append(cardinality)
        unknown[name] = {split: float(np.mean(column_ids[rows[split]] == 0)) for split in SPLITS}
    schema = Schema(dense=tuple(dense), sparse=tuple(sparse), cardinalities=tuple(cardinalities))
    sparse_rows = np.stack(ids, axis=1)
    dense_rows = np.zeros((len(label), len(dense)), dtype=np.float32)
    for i, column_name in enumerate(dense.values()):
        dense_rows[:, i] = log_dense(table[column_name])
    splits = {n: Split(dense_rows[r], sparse_rows[r], label[r].astype(np.uint8)) for n, r in rows.items()}
    return Tables(schema, splits, {"out_of_vocabulary": unknown})


def read_label(table: Any, name: str, where: str) -> np.ndarray:
    """A label column as (rows,) int64.

    Raises:
        DataError: a missing value, or one that is neither 0 nor 1.
    """
    column = table[name]
    if column.null_count:
        raise DataError(f"{where}: column {name!r}: {column.null_count} labels missing")
    try:
        label = column.to_numpy().astype(np.int64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: column {name!r}: {column.type} values, expected 0 and 1") from None
    wrong = (label != 0) & (label != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}: row {row}: {name} {label[row]}, allowed 0 and 1")
    return label
