"""Tables as text and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from skdistill._intervals import ConfidenceInterval, format_number


def cell(value: Any) -> str:
    """Write a value for a table."""
    if isinstance(value, float):
        return format_number(value)
    return str(value)


def text_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table whose columns are aligned; the first one to the left."""
    cells = [list(headers), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first, *others = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def html_table(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[Any]],
    notes: Sequence[str],
) -> str:
    """Return the same as HTML, with a caption above and notes below."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}"
    )


def flat(name: str, value: Any) -> dict[str, float]:
    """Return an interval as three numbers, and a number as itself."""
    if isinstance(value, ConfidenceInterval):
        return {
            name: value.estimate,
            f"{name}_low": value.low,
            f"{name}_high": value.high,
        }
    return {name: value}


def to_frame(records: Sequence[dict[str, Any]], index: str) -> Any:
    """Return records as a pandas data frame."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_frame needs pandas: pip install pandas. to_dict does without."
        ) from error
    return pd.DataFrame(list(records)).set_index(index)
