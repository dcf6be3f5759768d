"""The card: at a glance the wall, where the run stands under it, why, and what to do next.

Bars share one linear scale, so the gap between arithmetic and memory is seen as what it is. Figures that were
not measured say `predicted`, with their interval; peaks say whether they were measured or come from a data
sheet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from ridgeway.roofline.advice import Plain, advice, elsewhere, mean_context
from ridgeway.roofline.cost import CostModel
from ridgeway.roofline.report import RunReport

_LABEL = 18
_LONGEST_BAR, _SHORTEST_BAR = 30, 12
_BESIDE_BAR = 54  # columns of a line with a bar that the bar may not have


@dataclass(frozen=True)
class Bar:
    """A rate in tokens per second, with a remark; style is rich's."""

    label: str
    rate: float
    remark: str = ""
    style: str = ""


@dataclass(frozen=True)
class Card:
    """A rich renderable. packed_bytes: see `advice`; commands: a last line that names what to type next."""

    report: RunReport
    cost_model: CostModel
    packed_bytes: Mapping[str, int] | None = None
    commands: tuple[str, ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("")
        yield self._title()
        yield from self._bars(options.max_width)
        yield Text("")
        for line in self._lines():
            yield _hanging(line, options.max_width)
        if self.commands:
            yield Text("")
            yield Text("  " + " | ".join(self.commands), style="dim")

    def __str__(self) -> str:
        return self.as_text()

    def as_text(self, width: int = 100) -> str:
        """The card without colour."""
        console = Console(file=StringIO(), width=width, color_system=None, highlight=False)
        console.print(self)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    def bars(self) -> list[Bar]:
        """From the highest ceiling down to the run."""
        report, plain = self.report, self._plain
        several = f", {plain.requests} at once" if plain.requests > 1 else ""
        bars = [
            Bar("arithmetic alone", plain.arithmetic, self._headroom(plain), "blue"),
            Bar("memory, plain", plain.memory, f"<- the wall{several}", "yellow"),
        ]
        rate = report.decode_tokens_per_second
        if not rate:
            return bars
        share = f"{100 * report.main.roof_fraction:.0f} % of the roof"
        if self._is_plain:
            return [*bars, Bar("this run", rate, f"{share}{self._expected()}", "green")]
        middle, low, high = plain.tokens_per_second
        same = "same tokens" if report.lossless else "its own tokens"
        return [
            *bars,
            Bar(
                "ar, if it could" if self._cannot_be_plain else "plain (ar)",
                middle,
                f"predicted {_interval(low, high)}",
                "dim",
            ),
            Bar("this run", rate, f"{rate / middle:.2f}x, {same}; {share}", "green"),
        ]

    @property
    def _is_plain(self) -> bool:
        return self.report.method.partition(":")[0] == "ar"

    @property
    def _cannot_be_plain(self) -> bool:
        """Whether the model only denoises: plain decoding is then that of a causal model of its size."""
        return self.report.reveals is not None and not self.cost_model.config.traits.autoregressive

    @property
    def _plain(self) -> Plain:
        return Plain.of(self.cost_model, self.report.main.requests, mean_context(self.report))

    @staticmethod
    def _headroom(plain: Plain) -> str:
        ratio = plain.arithmetic / plain.memory
        return f"{ratio:.0f}x the wall" if ratio >= 1.5 else ""

    def _title(self) -> Text:
        machine = self.cost_model.machine
        where = "measured" if machine.source == "measured" else "from its data sheet"
        title = Text(self.report.model, style="bold")
        return title.append(f" | {self.report.method} | {machine.name}, peaks {where}", style="not bold")

    def _expected(self) -> str:
        """Tokens per second that the estimates, made before each step, add up to."""
        decode = self.report.decode
        _, low, high = decode.estimate
        return f" (predicted {_interval(decode.tokens / high, decode.tokens / low)})" if low > 0 else ""

    def _bars(self, width: int) -> Iterator[Text]:
        bars = self.bars()
        length = min(_LONGEST_BAR, max(_SHORTEST_BAR, width - _BESIDE_BAR))
        top = max(bar.rate for bar in bars)
        for number, bar in enumerate(bars):
            marks = "#" * max(1, round(length * bar.rate / top)) if bar.rate else ""
            line = Text(f"  {bar.label:<{_LABEL}}|")
            line.append(f"{marks:<{length}}", style=bar.style).append("|")
            line.append(f" {_rate(bar.rate):>7}{' tok/s' if number == 0 else ''}")
            if bar.remark and len(line) + 3 + len(bar.remark) <= width:
                line.append(f"   {bar.remark}")
                yield line
            else:
                yield line
                if bar.remark:
                    yield Text(" " * (_LABEL + 4) + bar.remark)

    def _lines(self) -> Iterator[str]:
        report = self.report
        per_stream = report.tokens_per_forward
        yield (
            f"first token {_seconds(report.first_token_seconds)} | {_count(report.tokens, 'token')} from "
            f"{_count(report.weight_streams, 'weight stream')} = {per_stream:.2f} per stream"
        )
        yield self._each_stream()
        yield self._why()
        yield from report.notes
        yield from self._foreseen()
        yield self._price()
        for item in advice(report, self.cost_model, self.packed_bytes)[:2]:
            yield (
                f"next: {item.text} would give {item.gain:.1f}x the tokens per second "
                f"(predicted {item.low:.1f}-{item.high:.1f})"
            )
        there = elsewhere()
        yield (
            f"elsewhere: an 8B model in bf16 on an H100: wall {there.memory:.0f}, arithmetic "
            f"{round(there.arithmetic, -2):,.0f} tok/s ({there.arithmetic / there.memory:.0f}x), "
            f"by its data sheet"
        )

    def _each_stream(self) -> str:
        phase = self.report.main
        cost, streams = phase.cost, max(1, phase.streams)
        return (
            f"each stream: weights {cost.weight_bytes / streams / 1e6:,.1f} MB + K/V "
            f"{cost.kv_bytes / streams / 1e6:,.1f} MB in {_seconds(phase.seconds / streams)} | K/V pool "
            f"{100 * self.report.kv_pool_fraction:.1f} % used"
        )

    def _why(self) -> str:
        phase, model = self.report.main, self.cost_model
        cost = phase.cost
        streams = max(1, cost.streams)
        memory = _seconds(model.memory_seconds(cost) / streams)
        arithmetic = _seconds(model.compute_seconds(cost) / streams)
        reason = {
            "memory": f"reading takes {memory} of each, the products would take {arithmetic}",
            "compute": f"the products take {arithmetic} of each, reading would take {memory}",
            "overhead": f"dispatching takes {_seconds(model.overhead)} of each, reading {memory}",
        }[phase.bound]
        place = f"intensity {cost.intensity:.1f} FLOP/B, ridge {self.report.ridge:.1f}"
        return f"{place} -> {phase.bound}-bound: {reason}"

    def _foreseen(self) -> Iterator[str]:
        """How well `ridgeway roof` would have predicted this run: the same law and what earlier runs taught, without
        what its own steps did. How many tokens a stream brings is not predicted, so of other methods than plain
        decoding the time of the streams is.
        """
        rate = self.report.decode_tokens_per_second
        if not rate:
            return
        model, decode = self.cost_model.as_recalled(), self.report.decode
        if self._is_plain:
            what = "before it began"
            middle, low, high = Plain.of(model, self.report.main.requests, mean_context(self.report)).tokens_per_second
        else:
            what = "for streams like these"
            slow = model.estimate(decode.cost)
            middle, low, high = (decode.tokens / seconds for seconds in (slow.seconds, slow.high, slow.low))
        off = 100 * (middle / rate - 1)
        yield (
            f"{what}, ridgeway roof predicted {_rate(middle)} tok/s ({_interval(low, high)}): "
            f"{abs(off):.0f} % {'above' if off > 0 else 'below'} what was reached"
        )

    def _price(self) -> str:
        dollars = self.report.dollars_per_million_tokens
        if dollars is None:
            return "cost: --price DOLLARS_PER_HOUR gives it per million tokens"
        return f"cost: ${_money(dollars)} per million tokens at ${self.report.price:.2f} per hour"


def _hanging(line: str, width: int) -> Text:
    """`line` indented by two columns, what does not fit by four more."""
    from textwrap import fill

    return Text(fill(line, max(40, width), initial_indent="  ", subsequent_indent="      "))


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _interval(low: float, high: float) -> str:
    return f"{_rate(low)}-{_rate(high)}"


def _money(dollars: float) -> str:
    return f"{dollars:.2f}" if dollars >= 0.095 else f"{dollars:.2g}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _seconds(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 0.01:
        return f"{1e3 * seconds:.0f} ms"
    return f"{1e3 * seconds:.1f} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.1f} us"
