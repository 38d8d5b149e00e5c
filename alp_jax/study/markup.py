"""Formats tables of text as Markdown and LaTeX.

Synopsis:

  markdown_table(["method", "mIoU"], [["alp_gi", "35.1 ± 0.4"]])
"""

from collections.abc import Collection, Sequence

Rows = Sequence[Sequence[str]]


def markdown_table(heads: Sequence[str], rows: Rows) -> str:
    """Formats a table; the first column is aligned left, the others right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join([line(heads), line(rule), *(line(row) for row in rows)])


def latex_table(
    heads: Sequence[str],
    rows: Rows,
    last_row: Sequence[str] | None,
    *,
    texts: Collection[str] = (),
    new_groups: Collection[int] = (),
) -> str:
    """Formats a booktabs table, with the highest mean of each column in bold.

    Args:
      heads: heads of the columns: a name, a count, and numbers.
      rows: numbers are "mean" or "mean ± std", or "-".
      last_row: row below a rule, without bold numbers; or None.
      texts: heads of columns that are texts, or numbers of others: as they are, never bold.
      new_groups: indices of rows that have a rule above.
    """
    plain = [index < 2 or head in texts for index, head in enumerate(heads)]
    best = [None if is_plain else _best_row(rows, i) for i, is_plain in enumerate(plain)]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(_escape_latex(head) for head in heads) + r" \\",
        "\\midrule",
    ]
    for index, row in enumerate(rows):
        lines += ["\\midrule"] if index in new_groups else []
        lines.append(_latex_row(row, [index == winner for winner in best], plain))
    if last_row:
        lines += ["\\midrule", _latex_row(last_row, [False] * len(heads), plain)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _best_row(rows: Rows, column: int) -> int | None:
    """Finds the row with the highest mean in a column; the first of equal ones."""
    means = {i: float(row[column].split()[0]) for i, row in enumerate(rows) if row[column] != "-"}
    return max(means, key=lambda index: means[index]) if means else None


def _latex_row(row: Sequence[str], bold: Sequence[bool], plain: Sequence[bool]) -> str:
    cells = [
        _escape_latex(cell) if is_plain else _latex_number(cell, is_bold)
        for cell, is_bold, is_plain in zip(row, bold, plain, strict=True)
    ]
    return " & ".join(cells) + r" \\"


def _latex_number(cell: str, bold: bool) -> str:
    mean, _, std = cell.partition(" ± ")
    if mean == "-":
        return "--"
    body = f"\\mathbf{{{mean}}}" if bold else mean
    return f"${body}_{{\\pm {std}}}$" if std else f"${body}$"


def _escape_latex(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text
