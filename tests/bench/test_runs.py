"""Everyone in turn, the same for all, and a fault costs only the one at fault."""

from ridgeway.bench.contenders import ContenderError
from ridgeway.bench.runs import Plan, expected_seconds, measure, prepare
from ridgeway.bench.timeline import Timeline
from ridgeway.bench.workload import Workload

WORKLOAD = Workload("three", ((1,), (2, 2), (3, 3, 3)), ("", "", ""))


class Recorded:
    """A contender of 1 s prefill and 1 s a token, that writes down what it is asked. It breaks when told to."""

    lossless = False
    detail = ""
    kind = "peer"

    def __init__(self, name, log, breaks=None, short=False):
        self.name, self.log, self.breaks, self.short = name, log, breaks, short

    def start(self):
        if self.breaks == "start":
            raise ContenderError("did not start")

    def prepare(self, prompts, max_tokens):
        if self.breaks == ("prepare", len(prompts)):
            raise ContenderError("cannot do that many")
        return self.measure(prompts, max_tokens, "prepare")

    def settle(self):
        pass

    def measure(self, prompts, max_tokens, what="measure"):
        self.log.append((what, self.name, [len(prompt) for prompt in prompts], max_tokens))
        if self.breaks == "second repeat" and len([1 for entry in self.log if entry[1] == self.name]) > 4:
            raise ContenderError("broke")
        count = max_tokens - self.short
        return Timeline.of(prompts, [[1.0 + n for n in range(count)] for _ in prompts], None)

    def close(self):
        pass


def bench(plan, *contenders):
    shares = []
    cells = prepare(plan, contenders, lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    shares.clear()
    measure(plan, contenders, cells, lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return cells


def test_the_bus_is_read_before_every_turn():
    said = iter([1.0, 3.0, 2.0, 8.0])
    one, other = Recorded("a", []), Recorded("b", [])
    plan = Plan(WORKLOAD, (3,), 4, repeats=2)
    cells = prepare(plan, [one, other], lambda what, share: None)
    rates = measure(plan, [one, other], cells, lambda what, share: None, lambda: next(said))
    assert rates == {3: (2.0, 5.0)}


def test_contenders_take_turns_in_every_repeat_and_the_first_one_changes():
    log = []
    bench(Plan(WORKLOAD, (3,), 4, repeats=3), Recorded("a", log), Recorded("b", log))
    assert [name for what, name, *_ in log if what == "measure"] == ["a", "b", "b", "a", "a", "b"]


def test_everyone_gets_the_same_prompts_and_the_same_budget():
    log = []
    bench(Plan(WORKLOAD, (1, 2), 4, repeats=1), Recorded("a", log), Recorded("b", log))
    of = {name: [entry[2:] for entry in log if entry[:2] == ("measure", name)] for name in "ab"}
    assert of["a"] == of["b"] == [([1], 4), ([2], 4), ([3], 4), ([1, 2], 4), ([3, 1], 4)]


def test_nothing_of_the_warm_up_is_measured():
    cells = bench(Plan(WORKLOAD, (1,), 64, repeats=2), Recorded("a", log := []))
    assert log[0] == ("prepare", "a", [1], 16)
    assert len(cells["a", 1].repeats) == 2
    assert [len(timelines) for timelines in cells["a", 1].repeats] == [3, 3]


def test_how_long_it_takes_is_known_beforehand():
    plan = Plan(WORKLOAD, (1,), 31, repeats=2)
    cells = prepare(plan, [Recorded("a", [])], lambda what, share: None)
    assert expected_seconds(plan, cells) == 2 * 3 * 31  # repeats, groups, 1 s of prefill and 30 of decode


def test_one_that_does_not_start_is_left_out():
    cells = bench(Plan(WORKLOAD, (1, 2), 4, 2), Recorded("a", []), Recorded("b", log := [], breaks="start"))
    assert log == []
    assert {cells["b", size].fault for size in (1, 2)} == {"did not start"}
    assert cells["a", 1].fault is None


def test_one_that_cannot_do_a_batch_size_is_measured_at_the_others():
    cells = bench(Plan(WORKLOAD, (1, 2), 4, 2), Recorded("b", [], breaks=("prepare", 2)))
    assert cells["b", 2].fault == "cannot do that many"
    assert (cells["b", 1].fault, len(cells["b", 1].repeats)) == (None, 2)


def test_one_that_breaks_later_is_not_asked_again():
    cells = bench(Plan(WORKLOAD, (1,), 4, 5), Recorded("b", log := [], breaks="second repeat"))
    assert cells["b", 1].fault == "broke"
    assert len(log) == 5


def test_another_number_of_tokens_is_a_fault():
    cells = bench(Plan(WORKLOAD, (1,), 4, 2), Recorded("b", [], short=True))
    assert cells["b", 1].fault == "produced 3 tokens where 4 were asked for"
    assert cells["b", 1].repeats == []
