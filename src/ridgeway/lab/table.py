"""Figures of the page as tables: the cost model asked at every stop of the sliders, the answers in three digits.

The page moves through tables and computes nothing of its own. A page that is served asks for a table when it needs
it, a page in a file carries its tables along; both hold the same numbers, as the command prints them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal

from ridgeway.core.errors import RequestError, did_you_mean
from ridgeway.roofline.predict import Predictor

Value = float | int | str | None
Row = Mapping[str, Value]
Stops = Mapping[str, tuple[float, ...]]
Kind = Literal["decimal", "count", "word"]


@dataclass(frozen=True)
class Column:
    """values: rounded decimals, whole counts, or words; None where there is nothing to say."""

    kind: Kind
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Table:
    """axes: stops of the sliders within it; each column has a value for every combination, the last axis fastest.
    facts: what no slider moves.
    """

    axes: Stops
    columns: Mapping[str, Column]
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {
            "axes": {name: list(stops) for name, stops in self.axes.items()},
            "columns": {name: list(column.values) for name, column in self.columns.items()},
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Figure:
    """chosen: sliders of which each position has a table of its own; within: those that move inside a table.
    rows: a table's rows, the last slider fastest. facts: of the figure as a whole.
    """

    name: str
    chosen: Stops
    within: Stops
    rows: Callable[[Predictor, Mapping[str, float]], Iterator[Row]] | None = None
    facts: Callable[[Predictor], Mapping[str, Any]] | None = None

    def positions(self) -> Iterator[dict[str, float]]:
        """Every position of the chosen sliders, the last one fastest."""
        for stops in product(*self.chosen.values()):
            yield dict(zip(self.chosen, stops, strict=True))

    def table(self, predictor: Predictor, position: Mapping[str, float]) -> Table:
        """position: of the chosen sliders; it need not be one of their stops, but must make sense to the method.

        Raises RequestError for a slider that is missing or not known, and what the cost model raises.
        """
        for name in position:
            if name not in self.chosen:
                raise RequestError(f"{self.name} has no slider {name!r}; {did_you_mean(name, self.chosen)}")
        missing = [name for name in self.chosen if name not in position]
        if missing:
            raise RequestError(f"{self.name}: {missing[0]} is missing; expected a number")
        rows = [] if self.rows is None else list(self.rows(predictor, position))
        assert len(rows) == (prod(map(len, self.within.values())) if self.rows else 0), self.name
        names = list(rows[0]) if rows else []
        columns = {name: _column([row[name] for row in rows]) for name in names}
        facts = {} if self.facts is None else rounded(self.facts(predictor))
        return Table(self.within, columns, facts)


def three_digits(value: float) -> float:
    """Rounded to three significant digits, as people read them."""
    return float(f"{value:.2e}")


def rounded(value: Any) -> Any:
    """The same plain data with its decimals in three significant digits."""
    if isinstance(value, float):
        return three_digits(value)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _column(values: list[Value]) -> Column:
    given = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in given):
        return Column("word", tuple(values))
    if any(isinstance(value, float) for value in given):
        return Column("decimal", tuple(None if value is None else three_digits(float(value)) for value in values))
    return Column("count", tuple(values))
