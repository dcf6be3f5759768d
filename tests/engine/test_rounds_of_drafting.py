"""What drafters are told of the step to come."""

from ridgeway.core.method import NO_DRAFT, Drafter
from ridgeway.core.sampling_params import SamplingParams
from ridgeway.engine.request import Request
from ridgeway.methods.autoregressive import Autoregressive
from ridgeway.methods.verify import Verify
from ridgeway.testing import toy_llm

LONG = [1 + number % 50 for number in range(100)]


class Asks(Drafter):
    """Drafts nothing, and notes what it was told."""

    def __init__(self):
        self.certain = []

    def propose(self, sequences, depths, streams):
        self.certain.append(streams.certain)
        assert streams.price(4) >= streams.price(0)
        return [NO_DRAFT for _ in sequences]


class Fails(Drafter):
    def propose(self, sequences, depths, streams):
        raise RuntimeError("no idea")


def started(drafter, *others):
    """An engine in which a request drafts, with others beside it from the third step on."""
    engine = toy_llm(max_rows=64).engine
    params = SamplingParams(temperature=0, max_tokens=30)
    engine.add(Request("drafting", [1, 2, 3], params, Verify(own=drafter)))
    for _ in range(3):
        engine.step()
    for number, prompt in enumerate(others):
        engine.add(Request(f"other {number}", prompt, params, Autoregressive()))
    return engine


def priced(engine):
    """The rows of the sequences that are priced, step by step."""
    found, of = [], engine.prices.of

    def noted(shapes):
        found.append([shape.rows for shape in shapes])
        return of(shapes)

    engine.prices.of = noted
    return found


def test_a_prompt_that_is_read_beside_is_in_no_price_and_brings_no_token():
    drafter = Asks()
    engine = started(drafter, LONG)
    rows = priced(engine)
    reports = [report for _ in range(2) for report in engine.step().reports] + engine.reports()
    assert max(report.rows for report in reports) == 64
    assert rows == [[1]]  # in the second step: in the first one the prompt leaves no row for drafts
    assert drafter.certain[-1] == 1


def test_sequences_that_decode_beside_are():
    drafter = Asks()
    engine = started(drafter, [5, 6], [7, 8])
    rows = priced(engine)
    for _ in range(2):
        engine.step()
    assert rows == [[1, 2, 2], [1, 1, 1]]
    assert drafter.certain[-2:] == [3, 3]


def test_a_drafter_at_fault_ends_the_requests_that_it_drafts_for_and_no_others():
    engine = started(Asks(), [5, 6])
    params = SamplingParams(temperature=0, max_tokens=4)
    engine.add(Request("faulty", [1, 2, 3], params, Verify(own=Fails())))
    finished = {output.request_id: output for step in engine.run() for output in step.finished}
    assert "no idea" in finished["faulty"].error
    assert finished["drafting"].error is None
    assert finished["other 0"].error is None
