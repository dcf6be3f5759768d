// Figure 4: drafts. How many tokens a pass yields, whether that pays, and the best length for each batch.

import { chart, line, show } from "lab/chart";
import { Stage, explain, html, svg } from "lab/elements";
import { count, number, percent, times } from "lab/format";

export class Drafting {
  figure = "drafting";

  constructor(lab) {
    const set = (name) => (value) => lab.set({ [name]: value });
    this.stage = new Stage("drafting", "Drafts", {
      sliders: [
        { name: "length", label: "Tokens guessed", stops: lab.stops("length"), format: (n) => count(n), onChange: set("length") },
        { name: "acceptance", label: "Chance that a guess is right", stops: lab.stops("acceptance"), format: percent, onChange: set("acceptance") },
        { name: "cost", label: "Cost of a guess, of a pass", stops: lab.stops("cost"), format: percent, onChange: set("cost") },
        { name: "at_once", label: "Requests at once", stops: lab.stops("at_once"), format: (n) => count(n), onChange: set("at_once") },
      ],
      readouts: [
        ["tokens", "Tokens per pass"],
        ["speedup", "Effective speed-up"],
        ["verdict", "Calibration"],
        ["best_length", "Best length"],
      ],
    });
    this.sliders = this.stage.sliders;
    this.round = html("div", {});
    this.plot = html("div", {});
    this.best = html("div", { class: "best" });
    this.stage.picture.append(this.round, this.plot, this.best);
  }

  draw(state, table, lab) {
    const row = table.row(state);
    const { readouts } = this.stage;
    readouts.set("tokens", number(row.tokens), "expected, the model's own included");
    readouts.set("speedup", times(row.speedup), `${times(row.floor_speedup)} at the floor; ${row.regime}-bound`, row.speedup < 1 ? "alarm" : "");
    readouts.set("verdict", row.verdict, said[row.verdict], row.verdict === "good" ? "good" : "alarm");
    readouts.set("best_length", row.best_length ? count(row.best_length) : "none", row.best_length ? `${times(row.best_speedup)}, for ${count(state.at_once)} at once` : "plain decoding is faster");
    const method = `speculative:draft_length=${state.length},acceptance=${state.acceptance},draft_cost=${state.cost}`;
    this.stage.command.textContent = lab.command(state, { batch: state.at_once, method });
    this.stage.tell(`${number(row.tokens)} tokens per pass, ${number(row.speedup)} times as fast. Calibration: ${row.verdict}. Best length ${row.best_length || "none"}.`);
    this.#round(state, row);
    this.#plot(state, table, row, lab.runsOf(state).filter((run) => run.gain && run.batch === 1 && /depth=/.test(run.method)));
    this.#best(state, table);
    this.stage.tabulate(
      ["guessed", "tokens per pass", "speed-up", "at the floor", "calibration"],
      table.axes.length.map((length) => {
        const at = table.row({ ...state, length });
        return [count(length), number(at.tokens), times(at.speedup), times(at.floor_speedup), at.verdict];
      }),
    );
  }

  /** A round: guesses fade with the chance that all before them were right; the last token is the model's own. */
  #round(state, row) {
    const width = Math.max(260, this.stage.picture.clientWidth);
    const pitch = Math.min(44, (width - 2) / (state.length + 1));
    const root = svg("svg", { viewBox: `0 0 ${width} 74`, width, height: 74, role: "img", "aria-label": `${count(state.length)} guesses are checked by one pass, which yields ${number(row.tokens)} tokens` });
    root.append(svg("text", { x: 1, y: 13, class: "strong" }, `one pass checks ${count(state.length)} and yields ${number(row.tokens)}`));
    for (let place = 0; place <= state.length; place += 1) {
      const own = place === state.length;
      const x = 1 + place * pitch;
      const box = { x, y: 24, width: pitch - 4, height: 28, rx: 4 };
      root.append(svg("rect", { ...box, class: own ? "token own" : "token shell" }));
      if (!own) root.append(svg("rect", { ...box, class: "token", style: `opacity:${state.acceptance ** (place + 1)}` }));
    }
    root.append(svg("text", { x: 1, y: 70, class: "faint" }, width < 480 ? "as likely as dark; the last is the model's own" : "guesses, as likely as they are dark; the last is the model's own"));
    show(this.round, root);
  }

  #plot(state, table, row, runs) {
    const all = table.axes.at_once.map((at_once) => [at_once, table.along("speedup", "length", { ...state, at_once })]);
    const highest = Math.max(2, ...all.flatMap(([, points]) => points.map(([, value]) => value))) * 1.08;
    const step = highest > 12 ? 4 : highest > 6 ? 2 : highest > 3 ? 1 : 0.5;
    const ticks = Array.from({ length: Math.floor(highest / step) + 1 }, (_, place) => place * step);
    const narrow = this.stage.picture.clientWidth < 480;
    const made = chart(this.stage.picture, {
      height: 250, right: narrow ? 34 : 76,
      x: { domain: [1, 16], ticks: table.axes.length, format: count, label: "tokens guessed" },
      y: { domain: [0, highest], ticks, format: times, label: "speed-up" },
      label: `Speed-up over draft length for ${count(state.at_once)} requests at once`,
    });
    const one = made.down(1);
    made.plot.append(svg("path", { d: `M${made.box.left} ${one}H${made.box.right}`, class: "ridge" }));
    for (const [at_once, points] of all) {
      made.plot.append(line(points, made, { class: at_once === state.at_once ? "curve draft" : "curve other" }));
      const end = points.at(-1)[1];
      made.root.append(svg("text", { x: made.box.right + 7, y: made.down(end) + 4, class: at_once === state.at_once ? "strong draft" : "faint" }, narrow ? count(at_once) : `${count(at_once)} at once`));
    }
    spread([...made.root.querySelectorAll(":scope > text")], 13);
    if (row.best_length) {
      made.root.append(svg("circle", { cx: made.across(row.best_length), cy: made.down(row.best_speedup), r: 9, class: "ring" }));
    }
    const point = svg("circle", { cx: made.across(state.length), cy: made.down(row.speedup), r: 6.5, class: "point draft" });
    explain(point, () => [`${count(state.length)} guessed, ${count(state.at_once)} at once`, `${number(row.tokens)} tokens per pass`, `${times(row.speedup)} as fast`]);
    made.root.append(point);
    for (const run of runs) {
      const dot = svg("circle", { cx: made.across(Number(/depth=(\d+)/.exec(run.method)[1])), cy: made.down(run.gain), r: 5, class: "dot" });
      explain(dot, () => [`measured: ${run.label}`, `${times(run.gain)} as fast as plain decoding, ${number(run.tokens_per_second)} tok/s`]);
      made.root.append(dot);
    }
    show(this.plot, made.root);
  }

  #best(state, table) {
    const cells = table.axes.at_once.map((at_once) => {
      const at = table.row({ ...state, at_once });
      return html("li", { class: at_once === state.at_once ? "now" : "" }, html("span", {}, `${count(at_once)} at once`),
        html("b", { "data-best": at_once }, at.best_length ? count(at.best_length) : "none"), html("span", {}, at.best_length ? times(at.best_speedup) : "plain"));
    });
    show(this.best, html("p", {}, "Best length by batch"), html("ol", {}, cells));
  }
}

/** Moves labels apart that would overlap. */
function spread(labels, gap) {
  const sorted = labels.sort((one, other) => other.getAttribute("y") - one.getAttribute("y"));
  for (let place = 1; place < sorted.length; place += 1) {
    const below = Number(sorted[place - 1].getAttribute("y"));
    if (below - sorted[place].getAttribute("y") < gap) sorted[place].setAttribute("y", below - gap);
  }
}

const said = {
  good: "near the best of its kind",
  "too long": "fewer guesses would be faster",
  "too short": "more guesses would be faster",
  "too weak": "no length beats plain decoding",
};
