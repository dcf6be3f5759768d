// Figure 6: every workload as a point under the roof, and what was measured here beside what was expected.

import { chart, decades, line, show } from "lab/chart";
import { Stage, explain, html, svg } from "lab/elements";
import { bytes, count, flops, number, percent, scaled } from "lab/format";

export class Roofline {
  figure = "roofline";
  sliders = {};

  constructor(lab) {
    this.lab = lab;
    this.stage = new Stage("roofline", "Workloads under the roof", {
      readouts: [
        ["peak", "The roof"],
        ["bandwidth", "The slant"],
        ["ridge", "The ridge"],
      ],
    });
    this.legend = html("ol", { class: "legend" });
    this.plot = html("div", {});
    this.stage.picture.append(this.plot, this.legend);
    this.own = [];
    if (lab.served) this.#asks(lab);
  }

  draw(state, table, lab, tables) {
    const facts = table.facts;
    const points = this.#points(state, facts, tables);
    const runs = lab.runsHere(state);
    const { readouts } = this.stage;
    readouts.set("peak", scaled(facts.peak, "FLOP/s"), `${facts.arithmetic}, ${facts.source === "measured" ? "measured" : "by its data sheet"}`, "compute");
    readouts.set("bandwidth", scaled(facts.bandwidth, "B/s"), "main memory", "memory");
    readouts.set("ridge", `${number(facts.ridge)} FLOP/B`, "the roof over the slant");
    this.stage.command.textContent = lab.command(state, { plot: true });
    this.stage.tell(points.map((point) => `${point.name}: ${number(point.intensity)} FLOPs per byte, ${point.regime}-bound`).join("; "));
    this.#plot(facts, points, runs);
    show(this.legend, ...points.map((point) => this.#entry(point)), ...runs.map((run) => this.#measured(run)));
    this.stage.tabulate(
      ["workload", "FLOP/B", "FLOP/s", "FLOPs a token", "bytes a token", "bound by"],
      points.map((point) => [point.name, number(point.intensity), scaled(point.flops_per_second, "FLOP/s"), point.flops_per_token ? flops(point.flops_per_token) : "–", point.bytes_per_token ? bytes(point.bytes_per_token) : "–", point.regime]),
    );
  }

  #points(state, facts, tables) {
    const { passes, batching, drafting, diffusion } = tables;
    const prefixed = (row, way) => Object.fromEntries(["intensity", "flops_per_second", "flops_per_token", "bytes_per_token", "regime"].map((name) => [name, row[`${way}_${name}`]]));
    const filled = diffusion.row(state);
    const read = passes.row(state);
    const [one, ...others] = facts.points;
    return [
      { tone: "memory", ...one },
      { tone: "memory", name: `decode, ${count(state.batch)} at once`, ...batching.row(state) },
      { tone: "compute", name: `prompt of ${count(state.prompt)}`, intensity: read.prefill_intensity, flops_per_second: read.prefill_flops_per_second, regime: read.prefill_regime },
      { tone: "draft", name: `drafts of ${count(state.length)}, ${count(state.at_once)} at once`, ...drafting.row(state) },
      { tone: "draft", ...others[0] },
      { tone: "draft", ...others[1] },
      { tone: "kv", name: "diffusion, whole answer", ...prefixed(filled, "masked") },
      { tone: "kv", name: `diffusion, blocks of ${count(state.block)}`, ...prefixed(filled, "block") },
      ...this.own.filter((point) => Object.keys(point.subject).every((name) => point.subject[name] === state[name])),
    ].map((point, place) => ({ ...point, letter: String.fromCharCode(65 + (place % 26)) }));
  }

  #plot(facts, points, runs) {
    const all = [...points, ...runs];
    const x = [Math.min(0.4, ...all.map((point) => point.intensity * 0.6)), Math.max(facts.ridge * 8, ...all.map((point) => point.intensity * 1.8))];
    const y = [Math.min(facts.bandwidth * x[0], ...all.map((point) => point.flops_per_second * 0.6)), facts.peak * 2.2];
    const made = chart(this.stage.picture, {
      height: Math.min(460, Math.max(320, this.stage.picture.clientWidth * 0.58)), left: 46,
      x: { domain: x, log: true, ticks: decades(x), format: number, label: "intensity, FLOP per byte moved" },
      y: { domain: y, log: true, ticks: decades(y), format: (value) => scaled(value, "").trim(), label: "FLOP/s" },
      label: `Roofline of ${facts.machine}: ${points.length} workloads`,
    });
    made.root.setAttribute("role", "group");
    const roof = [[x[0], facts.bandwidth * x[0]], [facts.peak / facts.bandwidth, facts.peak], [x[1], facts.peak]];
    const height = (intensity) => Math.min(facts.peak, intensity * facts.bandwidth);
    made.plot.append(
      svg("path", { class: "under", d: `${roof.map(([a, b], n) => `${n ? "L" : "M"}${made.across(a)} ${made.down(b)}`).join("")}V${made.box.bottom}H${made.box.left}Z` }),
      line(roof, made, { class: "curve roof" }),
      svg("path", { d: `M${made.across(facts.ridge)} ${made.down(facts.peak)}V${made.box.bottom}`, class: "ridge" }),
    );
    made.root.append(
      svg("text", { x: made.box.right - 4, y: made.down(facts.peak) - 9, "text-anchor": "end", class: "strong compute" }, scaled(facts.peak, "FLOP/s")),
      svg("text", { x: made.across(facts.ridge) + 6, y: made.box.bottom - 9, class: "faint" }, `ridge ${number(facts.ridge)}`),
    );
    for (const run of runs) {
      const at = made.across(run.intensity);
      const dot = svg("circle", { cx: at, cy: made.down(run.flops_per_second), r: 5, class: "dot", tabindex: 0, role: "img", "aria-label": `measured: ${run.label}` });
      explain(dot, () => measured(run));
      made.root.append(
        svg("path", { d: `M${at} ${made.down(run.flops_per_second)}V${made.down(run.expected_flops_per_second)}`, class: "miss" }),
        svg("circle", { cx: at, cy: made.down(run.expected_flops_per_second), r: 5, class: "dot hollow" }),
        dot,
      );
    }
    this.marks = new Map();
    const taken = [];
    for (const point of points) {
      const [true_, up] = [made.across(point.intensity), made.down(point.flops_per_second)];
      // A point that would hide another one steps aside, with a line to where it belongs.
      let at = true_;
      while (taken.some(([x, y]) => Math.hypot(x - at, y - up) < 17)) at += 6;
      taken.push([at, up]);
      made.plot.append(svg("path", { d: `M${true_} ${up}V${made.down(height(point.intensity))}`, class: "miss" }));
      if (at !== true_) made.root.append(svg("path", { d: `M${true_} ${up}H${at}`, class: "aside-line" }));
      const mark = svg("g", { class: `mark ${point.tone}`, tabindex: 0, role: "img", "aria-label": told(point).join(", "), "data-point": point.name },
        svg("circle", { cx: at, cy: up, r: 9.5 }), svg("text", { x: at, y: up + 4, "text-anchor": "middle" }, point.letter));
      explain(mark, () => told(point));
      this.marks.set(point.letter, mark);
      made.root.append(mark);
    }
    show(this.plot, made.root);
  }

  #entry(point) {
    const entry = html("li", { class: point.tone }, html("b", {}, point.letter), html("span", {}, point.name), html("small", {}, `${number(point.intensity)} FLOP/B, ${point.regime}-bound`));
    entry.addEventListener("pointerenter", () => this.marks.get(point.letter)?.classList.add("now"));
    entry.addEventListener("pointerleave", () => this.marks.get(point.letter)?.classList.remove("now"));
    return entry;
  }

  #measured(run) {
    return html("li", { class: "run" }, html("b", {}, "●"), html("span", {}, `measured: ${run.label}`), html("small", {}, `${run.tokens_per_second ? `${number(run.tokens_per_second)} tok/s; ` : ""}${percent(Number((run.flops_per_second / run.expected_flops_per_second).toPrecision(3)))} of the expected rate`));
  }

  /** A workload of one's own, in the words of the command. */
  #asks(lab) {
    const field = (name, label, value, attributes = {}) => html("label", {}, html("span", {}, label), html("input", { name, value, ...attributes }));
    const whole = { type: "number", min: 1, step: 1, required: true };
    const answer = html("p", { role: "status" });
    const form = html("form", { class: "asks" },
      field("method", "Method, as --method takes it", "block-diffusion:block=16,tokens_per_step=4", { required: true, spellcheck: "false" }),
      field("prompt", "Prompt", 512, whole), field("output", "Answer", 256, whole), field("batch", "At once", 16, whole),
      html("button", { type: "submit" }, "Add a point"), answer);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const { model, machine, precision } = lab.state;
      const asked = Object.fromEntries(new FormData(form));
      const reply = await fetch(`/api/predict?${new URLSearchParams({ model, machine, precision, ...asked })}`);
      const found = await reply.json();
      answer.textContent = reply.ok ? `${number(found.estimate.total)} tokens per second in all, ${found.limit}` : found.error ?? "these are not numbers that a workload can have";
      answer.classList.toggle("alarm", !reply.ok);
      if (!reply.ok) return;
      this.own.push({
        subject: { model, machine, precision }, tone: "own", name: `${found.method}, ${count(Number(asked.batch))} at once`, intensity: found.intensity,
        flops_per_second: found.flops_per_second, flops_per_token: found.flops.per_token, bytes_per_token: found.bytes.per_token, regime: found.regime,
      });
      lab.refresh();
    });
    this.stage.extras.append(form);
  }
}

const told = (point) => [
  point.name,
  ...(point.flops_per_token ? [`${flops(point.flops_per_token)} ÷ ${bytes(point.bytes_per_token)} a token`] : []),
  `= ${number(point.intensity)} FLOP/B, ${point.regime}-bound`,
  `${scaled(point.flops_per_second, "FLOP/s")} of min(peak, intensity × bandwidth)`,
  ...(point.assumed ? [`assumed: ${point.assumed}`] : []),
];

const measured = (run) => [
  `measured: ${run.label}, ${run.model}`,
  `${run.tokens_per_second ? `${number(run.tokens_per_second)} tok/s at ` : ""}${number(run.intensity)} FLOP/B, ${run.regime}-bound`,
  `${scaled(run.flops_per_second, "FLOP/s")}; expected ${scaled(run.expected_flops_per_second, "FLOP/s")}`,
];
