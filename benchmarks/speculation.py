"""How much faster drafting is than plain decoding, by task, temperature and batch size, on prompts of your own.

    python benchmarks/speculation.py PROMPTS.jsonl... --methods auto ngram --temperatures 0 0.7 --out results
    python benchmarks/speculation.py PROMPTS.jsonl... --batches 1 2 4 8 16 32 --out results
    python benchmarks/speculation.py PROMPTS.jsonl... --lengths 1 2 3 5 8 --temperatures 0 0.7 1 --limit 2 --out results

The third asks how long drafts should be: n-gram drafts of each length, at every temperature, by kind of prompt, beside
the method that decides it at every step (five minutes on two cores, for seven kinds of prompts).

A line of a prompt file has `prompt` or `turns` (the first is used), and maybe `category`, by which results are told
apart; files without one go by their names. Each prompt is decoded by plain decoding and by every method in turn, in an
order that rotates, so that a machine's moods hit all alike; a method's time for a prompt is the median of the passes.
Intervals are paired bootstraps over prompts. With --batches above 1 the prompts form queues of three rounds, of which
so many run at once, as in a server; intervals are over queues in passes, and the reading of prompts counts.

Each pass and each temperature begins with methods that have learned nothing, so no answer is drafted from an earlier
run of itself. Nothing is reused between prompts but what methods learn; the prefix cache is off. Answers that repeat an
8-gram three times or more count as loops: they flatter every drafter, so figures without them stand beside.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import charts
import numpy as np

from ridgeway import LLM, SamplingParams
from ridgeway.bench.workload import encoded, read_prompts
from ridgeway.core.errors import RidgewayError
from ridgeway.core.method import DecodingMethod
from ridgeway.methods.depth import choose
from ridgeway.methods.registry import make_method
from ridgeway.roofline.prices import PriceList
from ridgeway.roofline.shape import QueryShape

PLAIN = "ar"
_ROUNDS = 3  # of a batch, in a queue


@dataclass(frozen=True)
class Prompt:
    task: str
    ids: list[int]


@dataclass
class Record:
    """One prompt (or one queue of them) by one method in one pass. seconds: all of it; decode: from the first token;
    asking: what a draft head took.
    """

    task: str
    prompt: int
    method: str
    temperature: float
    batch: int
    number: int
    seconds: float
    decode: float
    asking: float
    tokens: int
    streams: int
    equal: bool
    loops: bool
    reached: list[int]
    accepted: list[int]
    steps: int
    label: str


def prompts_of(paths: Iterable[Path], llm: LLM, limit: int | None, longest: int) -> list[Prompt]:
    """At most `limit` prompts of each task, spread evenly over the file; none longer than `longest` tokens."""
    by_task: defaultdict[str, list[Prompt]] = defaultdict(list)
    groups = {"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
    for path in paths:
        workload = encoded(str(path), read_prompts(path), llm.tokenizer)
        for ids, category in zip(workload.prompts, workload.categories, strict=True):
            task = category or path.stem
            task = "multi-turn" if task in groups else task  # eight kinds of one benchmark, a few prompts each
            by_task[task].append(Prompt(task, list(ids[-longest:])))
    chosen = []
    for prompts in by_task.values():
        count = min(limit or len(prompts), len(prompts))
        chosen += [prompts[int(place)] for place in np.linspace(0, len(prompts) - 1, count)]
    return chosen


def of_length(length: int) -> str:
    """The method whose drafts all have that length, where the text has a match at all."""
    return f"ngram:depth={length}"


def loops(tokens: Sequence[int]) -> bool:
    """Whether an 8-gram occurs three times or more."""
    grams = Counter(tuple(tokens[place : place + 8]) for place in range(len(tokens) - 7))
    return max(grams.values(), default=0) >= 3


def timed(llm: LLM, prompts: Sequence[Prompt], params: Sequence[SamplingParams], method: DecodingMethod) -> Record:
    """Decode the prompts, as many at once as the engine runs."""
    began = perf_counter()
    outputs = llm.generate([prompt.ids for prompt in prompts], list(params), method=method)
    seconds = perf_counter() - began
    first = max(output.metrics.first_token_seconds or 0.0 for output in outputs)
    samples = [output.outputs[0] for output in outputs]
    counts = [sample.drafts for sample in samples if sample.drafts is not None]
    deepest = max((len(one.reached) for one in counts), default=0)

    def summed(name: str) -> list[int]:
        lists = [getattr(one, name) for one in counts]
        return [sum(values[place] for values in lists if place < len(values)) for place in range(deepest)]

    return Record(
        task=prompts[0].task,
        prompt=0,
        method="",
        temperature=params[0].temperature,
        batch=1,
        number=0,
        seconds=seconds,
        decode=max(seconds - first, 1e-9),
        asking=sum(step.seconds for step in llm.steps if not step.cost.streams),
        tokens=sum(len(sample.token_ids) for sample in samples),
        streams=sum(step.cost.streams for step in llm.steps),
        equal=True,
        loops=any(loops(sample.token_ids) for sample in samples),
        reached=summed("reached"),
        accepted=summed("accepted"),
        steps=sum(one.steps for one in counts),
        label=counts[0].label if counts else "",
    )


def run(llm: LLM, prompts: Sequence[Prompt], options: argparse.Namespace, batch: int) -> list[Record]:
    """All passes over all prompts: one after the other, or queues of several rounds, of which `batch` run at once."""
    records: list[Record] = []
    fixed = map(of_length, options.lengths if batch == 1 else ())
    names = list(dict.fromkeys([PLAIN, *options.methods, *fixed]))
    if len(prompts) < batch:
        sys.exit(f"{len(prompts)} prompts are too few for {batch} at once; raise --limit or name more files")
    queue = 1 if batch == 1 else min(_ROUNDS * batch, len(prompts))
    groups = [list(prompts[start : start + queue]) for start in range(0, len(prompts) - queue + 1, queue)]
    for number in range(options.passes):
        for temperature in options.temperatures:
            methods = {name: make_method(name) for name in names}
            for place, group in enumerate(groups):
                params = [
                    SamplingParams(
                        temperature=temperature,
                        top_p=0.95 if temperature else 1.0,
                        seed=1000 * place + other,
                        max_tokens=options.max_tokens,
                        ignore_eos=options.ignore_eos,
                    )
                    for other in range(len(group))
                ]
                turn = (place + number) % len(names)
                texts = {}
                for name in names[turn:] + names[:turn]:
                    record = timed(llm, group, params, methods[name])
                    texts[name] = [output.outputs[0].token_ids for output in llm.outputs]
                    record.prompt, record.method, record.number, record.batch = place, name, number, batch
                    if batch > 1:  # there are few queues, so that each pass counts for itself
                        record.prompt += number * len(groups)
                    records.append(record)
                for record in records[-len(names) :]:
                    record.equal = texts[record.method] == texts[PLAIN]
                    if not record.equal:
                        print(f"{record.method}: prompt {place} differs from plain decoding", file=sys.stderr)
                print(f"\rpass {number + 1}, T={temperature:g}, {place + 1} of {len(groups)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return records


def gain(records: Sequence[Record], method: str, what: str, rounds: int = 2000) -> charts.Interval | None:
    """Plain decoding's time over the method's, summed over prompts, with the 90 % interval of a paired bootstrap."""
    times: dict[str, defaultdict[int, list[float]]] = {PLAIN: defaultdict(list), method: defaultdict(list)}
    for record in records:
        if record.method in times:
            times[record.method][record.prompt].append(getattr(record, what))
    places = sorted(set(times[PLAIN]) & set(times[method]))
    if not places:
        return None
    plain = np.array([median(times[PLAIN][place]) for place in places])
    other = np.array([median(times[method][place]) for place in places])
    drawn = np.random.default_rng(0).integers(0, len(places), (rounds, len(places)))
    ratios = plain[drawn].sum(axis=1) / other[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return float(plain.sum() / other.sum()), float(low), float(high)


def acceptance(records: Sequence[Record]) -> list[float]:
    """By position, where it was reached."""
    deepest = max((len(record.reached) for record in records), default=0)
    shares = []
    for place in range(deepest):
        reached = sum(record.reached[place] for record in records if place < len(record.reached))
        accepted = sum(record.accepted[place] for record in records if place < len(record.accepted))
        shares.append(accepted / reached if reached else 0.0)
    return shares


def table(records: Sequence[Record], options: argparse.Namespace) -> dict[str, dict[str, charts.Interval]]:
    """Prints figures by temperature, method and task; returns the gains of each method and temperature: in decoding, or
    of queues, in which some are read while others decode, in all.
    """
    bars: dict[str, dict[str, charts.Interval]] = {}
    queued = records[0].batch > 1
    what = "seconds" if queued else "decode"
    print(
        "| T | method | task | prompts | tok/forward | decode | with prefill | without loops | accepted by position |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    tasks = list(dict.fromkeys(record.task for record in records))
    for temperature in options.temperatures:
        for method in [name for name in options.methods if name != PLAIN]:
            for task in [*tasks, "overall"]:
                mine = [r for r in records if r.temperature == temperature and task in (r.task, "overall")]
                theirs = [r for r in mine if r.method == method]
                if not theirs:
                    continue
                looping = {r.prompt for r in mine if r.loops}
                plain_text = [r for r in mine if r.prompt not in looping]
                whole, calm = gain(mine, method, "seconds"), gain(plain_text, method, what)
                decode = None if queued else gain(mine, method, "decode")
                per_forward = sum(r.tokens for r in theirs) / sum(r.streams for r in theirs)
                shares = " ".join(f"{100 * share:.0f}" for share in acceptance(theirs)[:6])
                count = len({r.prompt for r in theirs})
                print(
                    f"| {temperature:g} | {method} | {task} | {count} | {per_forward:.2f} | {_words(decode)} | "
                    f"{_words(whole)} | {_words(calm)} ({count - len(looping)}) | {shares} |"
                )
                shown = whole if queued else decode
                if shown is not None:
                    bars.setdefault(f"{method}, T={temperature:g}", {})[task] = shown
    wrong = sum(not record.equal for record in records)
    print(f"\n{len(records) - wrong} of {len(records)} answers are plain decoding's, token for token")
    return bars


def by_length(records: Sequence[Record], options: argparse.Namespace) -> None:
    """Prints what drafts of each length gain and how many of their tokens are accepted; draws both."""
    methods = [*map(of_length, options.lengths), *(name for name in options.methods if name != PLAIN)]
    heads = [*(f"{length} drafted" for length in options.lengths), *methods[len(options.lengths) :]]
    print(f"\n| T | task | {' | '.join(heads)} | accepted by position |\n|{'---|' * (len(heads) + 3)}")
    gains: defaultdict[str, list[tuple[float, charts.Interval]]] = defaultdict(list)
    shares: dict[str, list[tuple[float, charts.Interval]]] = {}
    tasks = [*dict.fromkeys(record.task for record in records), "overall"]
    for temperature in options.temperatures:
        for task in tasks:
            mine = [r for r in records if r.temperature == temperature and task in (r.task, "overall")]
            cells = []
            for place, method in enumerate(methods):
                theirs = [r for r in mine if r.method == method]
                value = gain(mine, method, "decode")
                if value is None:
                    continue
                per_forward = sum(r.tokens for r in theirs) / sum(r.streams for r in theirs)
                cells.append(f"{value[0]:.2f}x ({per_forward:.2f} tok)")
                if place < len(options.lengths):
                    if task == "overall":
                        gains[f"T={temperature:g}"].append((options.lengths[place], value))
                    elif temperature == options.temperatures[0]:
                        gains[f"{task}, T={temperature:g}"].append((options.lengths[place], value))
                elif task == "overall":
                    gains[f"{method}, T={temperature:g}"] = [(length, value) for length in options.lengths]
            accepted = acceptance([r for r in mine if r.method == of_length(max(options.lengths))])
            shares[f"{task}, T={temperature:g}"] = [
                (position, (share, share, share)) for position, share in enumerate(accepted, start=1)
            ]
            percent = " ".join(f"{100 * share:.0f}" for share in accepted)
            print(f"| {temperature:g} | {task} | {' | '.join(cells)} | {percent} |")
    kinds = {name: points for name, points in gains.items() if name.rpartition(",")[0] in tasks}
    whole = {name: points for name, points in gains.items() if name not in kinds}
    overall = {name: points for name, points in shares.items() if name.startswith("overall")}
    for file, title, unit, series in (
        ("gain-by-length", "Speed over plain decoding by tokens drafted", "times, 90 % interval", whole),
        ("gain-by-length-and-kind", "The same by kind of prompt", "times, 90 % interval", kinds),
        ("acceptance-by-position", "Accepted where reached, by position in the draft", "share", overall),
    ):
        (options.out / f"{file}.svg").write_text(charts.lines(title, unit, series))


def predicted(llm: LLM, batch: int, alone: Sequence[Record], context: int) -> float:
    """The gain that the prices of this process promise at a batch size. alone: the method's records at batch 1, which
    tell how many steps had drafts, how many of these came true by position, and how long a draft head was asked.
    """
    listed = PriceList(llm.cost_model, [QueryShape(1, context)] * batch)
    often = sum(record.steps for record in alone) / sum(record.streams for record in alone)
    having = max(1, round(often * batch))  # sequences that have drafts in a step
    survival = sorted(np.repeat(np.cumprod(acceptance(alone)), having).tolist(), reverse=True)
    asking = having * sum(record.asking for record in alone) / max(1, sum(record.steps for record in alone))

    def price(drafted: int) -> float:
        return llm.engine.prices.step(listed, drafted) + (asking if drafted else 0.0)

    choice = choose(survival, batch, price)
    if not choice.drafted:
        return 1.0
    share = min(1.0, often * batch / having)  # of steps in which so many do
    seconds = price(choice.drafted) / choice.price
    tokens = 1 + sum(survival[: choice.drafted]) / batch
    return (share * tokens + 1 - share) / (share * seconds + 1 - share)


def _words(value: charts.Interval | None) -> str:
    return "-" if value is None else f"{value[0]:.2f}x ({value[1]:.2f}-{value[2]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--executor", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--methods", nargs="+", default=["auto"])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 0.7])
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--lengths", nargs="*", type=int, default=[], help="of drafts, to compare one by one")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--limit", type=int, help="prompts of each task")
    parser.add_argument("--longest", type=int, default=1536, help="tokens of a prompt; the end is kept")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--ignore-eos", action="store_true", help="every answer has --max-tokens tokens")
    parser.add_argument("--out", type=Path, default=Path("speculation"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    def load(batch: int) -> LLM:
        return LLM(
            options.model,
            executor=options.executor,
            threads=options.threads,
            max_sequences=batch,
            prefix_caching=False,
        )

    llm = load(options.batches[0])
    try:
        prompts = prompts_of(options.prompts, llm, options.limit, options.longest)
    except RidgewayError as error:
        parser.error(str(error))

    def warm(llm: LLM) -> None:
        for name in [PLAIN, *options.methods, *map(of_length, options.lengths)]:  # compilation is not what is measured
            llm.generate([prompts[0].ids], SamplingParams(max_tokens=16, temperature=0), method=name)

    curves: defaultdict[str, list[tuple[float, charts.Interval]]] = defaultdict(list)
    alone: dict[float, list[Record]] = {}
    with (options.out / "records.jsonl").open("w") as file:
        for place, batch in enumerate(options.batches):
            print(f"\n## {batch} at once, {len(prompts)} prompts\n")
            if place:
                del llm  # two of them would not fit everywhere
                llm = load(batch)
            warm(llm)
            mixed = list(prompts)
            if batch > 1:
                np.random.default_rng(0).shuffle(mixed)  # a batch holds all kinds
            records = run(llm, mixed, options, batch)
            for record in records:
                record.task = "mixed" if batch > 1 else record.task
                print(json.dumps(asdict(record)), file=file)
            bars = table(records, options)
            if options.lengths and batch == 1:
                by_length(records, options)
            chart = charts.bars(f"{batch} at once: speed over plain decoding", "times, 90 % interval", bars)
            (options.out / f"gain-batch-{batch}.svg").write_text(chart)
            for temperature in options.temperatures:
                for method in [name for name in options.methods if name != PLAIN]:
                    alike = [r for r in records if r.temperature == temperature]
                    measured = gain(alike, method, "decode" if batch == 1 else "seconds")
                    if measured is None:
                        continue
                    name = f"{method}, T={temperature:g}"
                    curves[name].append((batch, measured))
                    if method == "auto" and options.batches[0] == 1:
                        alone.setdefault(temperature, [r for r in alike if r.method == method])
                        value = predicted(llm, batch, alone[temperature], 300)
                        curves[f"{name}, predicted"].append((batch, (value, value, value)))
    if len(options.batches) > 1:
        title = "Speed over plain decoding by requests at once"
        (options.out / "gain-by-batch.svg").write_text(charts.lines(title, "times, 90 % interval", curves))
        for name, points in curves.items():
            print(f"{name}: " + ", ".join(f"{batch:g}: {_words(value)}" for batch, value in points))


if __name__ == "__main__":
    main()
