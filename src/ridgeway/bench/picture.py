"""The runs of a bench under the machine's roof."""

from ridgeway.bench.report import BASELINE, BenchReport
from ridgeway.llm import LLM
from ridgeway.roofline.plot import Point, roofline_svg


def bench_svg(report: BenchReport, llm: LLM) -> str:
    """An SVG document: decode of each method at each batch size, and the prefill of plain decoding.

    Peers are not in it: what they really read and multiply is not known.
    """
    points = []
    for (name, batch), row in report.rows.items():
        if row.decode_phase is not None:
            points.append(Point.of(f"{name}, batch {batch}", row.decode_phase))
        if name == BASELINE and row.prefill_phase is not None and row.prefill_phase.steps:
            points.append(Point.of(f"prefill, batch {batch}", row.prefill_phase))
    title = f"{llm.title} on {llm.machine.name}"
    return roofline_svg(llm.machine, llm.cost_model.arithmetic, points, title, _working_set(report))


def _working_set(report: BenchReport) -> int | None:
    """Of plain decoding at the first batch size: its slant is the one that most points stand under."""
    phase = report.rows[BASELINE, report.plan.batches[0]].decode_phase
    return phase.cost.working_set if phase is not None else None
