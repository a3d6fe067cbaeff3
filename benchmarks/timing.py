"""What a benchmark reports."""

from dataclasses import dataclass


@dataclass
class Row:
    """One measurement.

    Attributes:
        value: in `unit`.
        limit: what was to be reached (at most for seconds and MiB, at least for rates); None: a baseline.
        ratio: to the baseline named in the benchmark's docstring, measured in the same run.
    """

    what: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None

    def __str__(self) -> str:
        """A row of a Markdown table."""
        limit = "" if self.limit is None else f"{self.limit:,g} {self.unit}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"| {self.what} | {self.value:,.3g} {self.unit} | {limit} | {ratio} |"
