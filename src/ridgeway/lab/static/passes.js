// Figure 2: a prompt in one pass, an answer in as many as it has tokens.

import { chart, decades, line, show } from "lab/chart";
import { Stage, explain, html, svg } from "lab/elements";
import { bytes, count, flops, number, seconds, times } from "lab/format";

const SHOWN = 48;

export class Passes {
  figure = "passes";

  constructor(lab) {
    this.stage = new Stage("passes", "Passes of a prompt and an answer", {
      sliders: [
        { name: "prompt", label: "Prompt", stops: lab.stops("prompt"), format: (n) => `${count(n)} tokens`, onChange: (value) => lab.set({ prompt: value }) },
        { name: "output", label: "Answer", stops: lab.stops("output"), format: (n) => `${count(n)} tokens`, onChange: (value) => lab.set({ output: value }) },
      ],
      readouts: [
        ["prefill_intensity", "Intensity, prompt"],
        ["intensity", "Intensity, answer"],
        ["decode_passes", "Passes for the answer"],
        ["decode_bytes", "Bytes for the answer"],
        ["prefill_seconds", "First token after"],
        ["anew_times", "Without a K/V cache"],
      ],
    });
    this.sliders = this.stage.sliders;
    this.strips = html("div", { class: "pair" });
    this.plot = html("div", {});
    this.stage.picture.append(this.strips, this.plot);
  }

  draw(state, table, lab) {
    const row = table.row(state);
    const { readouts } = this.stage;
    readouts.set("prefill_intensity", `${number(row.prefill_intensity)} FLOP/B`, `${row.prefill_regime}-bound`, row.prefill_regime);
    readouts.set("intensity", `${number(row.intensity)} FLOP/B`, `${row.regime}-bound`, row.regime);
    readouts.set("decode_passes", number(row.decode_passes), "the prompt's pass gives the first token");
    readouts.set("decode_bytes", bytes(row.decode_bytes), `in ${seconds(row.decode_seconds)}; the prompt moves ${bytes(row.prefill_bytes)}`);
    readouts.set("prefill_seconds", seconds(row.prefill_seconds), `then one every ${seconds(row.decode_seconds / row.decode_passes)}`);
    readouts.set("anew_times", times(row.anew_times), "the FLOPs: all earlier tokens anew each time");
    this.stage.command.textContent = lab.command(state, { prompt: state.prompt, output: state.output });
    this.stage.tell(`Prompt: one pass, ${number(row.prefill_intensity)} FLOPs per byte, ${row.prefill_regime}-bound. Answer: ${number(row.decode_passes)} passes, ${number(row.intensity)} FLOPs per byte, ${row.regime}-bound.`);
    this.#strips(state, row);
    this.#plot(state, table, lab);
    this.stage.tabulate(
      ["tokens of the prompt", "intensity", "bound by", "bytes", "time"],
      table.axes.prompt.map((prompt) => {
        const at = table.row({ ...state, prompt });
        return [count(prompt), number(at.prefill_intensity), at.prefill_regime, bytes(at.prefill_bytes), seconds(at.prefill_seconds)];
      }),
    );
  }

  #strips(state, row) {
    show(this.strips, strip(this.stage.picture, state.prompt, true, `${count(state.prompt)} tokens of the prompt: 1 pass`),
      strip(this.stage.picture, state.output, false, `${count(state.output)} tokens of the answer: ${number(row.decode_passes)} passes`));
  }

  #plot(state, table, lab) {
    const ridge = lab.roof.ridge;
    const prefill = table.along("prefill_intensity", "prompt", state);
    const decode = table.along("intensity", "output", state);
    const highest = Math.max(ridge * 2, ...prefill.map(([, value]) => value));
    const lowest = Math.min(0.8, ...decode.map(([, value]) => value));
    const made = chart(this.stage.picture, {
      height: 240,
      x: { domain: [16, 16384], log: true, ticks: [16, 64, 256, 1024, 4096, 16384], format: count, label: "tokens of the prompt, or of the answer" },
      y: { domain: [lowest, highest], log: true, ticks: decades([lowest, highest]), format: number, label: "FLOP/B" },
      label: "Intensity of a prompt grows with its length; that of an answer does not",
    });
    const y = made.down(ridge);
    made.plot.append(
      svg("path", { d: `M${made.box.left} ${y}H${made.box.right}`, class: "ridge" }),
      line(prefill, made, { class: "curve compute" }),
      line(decode, made, { class: "curve memory" }),
    );
    const points = [
      ["prompt", state.prompt, table.at("prefill_intensity", state), "compute", [`${flops(table.at("prefill_flops", state))} for ${bytes(table.at("prefill_bytes", state))}`]],
      ["answer", state.output, table.at("intensity", state), "memory", [`${flops(table.at("flops_per_token", state))} for ${bytes(table.at("bytes_per_token", state))} a token`]],
    ];
    for (const [name, x, value, tone, lines] of points) {
      const point = svg("circle", { cx: made.across(x), cy: made.down(value), r: 6, class: `point ${tone}` });
      explain(point, () => [`${name} of ${count(x)} tokens`, `${number(value)} FLOP/B`, ...lines]);
      made.root.append(point);
    }
    for (const run of lab.runsOf(state).filter((one) => one.batch === 1 && one.tokens >= 16)) {
      const dot = svg("circle", { cx: made.across(run.tokens), cy: made.down(run.intensity), r: 5, class: "dot" });
      explain(dot, () => [`measured: ${run.label} of ${count(run.tokens)} tokens`, `${number(run.intensity)} FLOP/B, ${run.regime}-bound`]);
      made.root.append(dot);
    }
    made.root.append(
      svg("text", { x: made.box.right - 4, y: y - 6, "text-anchor": "end", class: "faint" }, `ridge ${number(ridge)}`),
      svg("text", { x: made.across(prefill.at(-2)[0]) - 8, y: made.down(prefill.at(-3)[1]) + 22, class: "strong compute", "text-anchor": "middle" }, "prompt"),
      svg("text", { x: made.across(decode.at(-1)[0]), y: made.down(decode.at(-1)[1]) - 8, class: "strong memory", "text-anchor": "middle" }, "answer"),
    );
    show(this.plot, made.root);
  }
}

/** Tokens above, a bar for each pass over all weights below. */
function strip(place, tokens, shared, said) {
  const wide = Math.max(260, place.clientWidth);
  const width = wide >= 604 ? Math.floor((wide - 24) / 2) : wide;
  const shown = Math.min(SHOWN, tokens);
  const pitch = width / shown;
  const root = svg("svg", { viewBox: `0 0 ${width} 118`, width, height: 118, role: "img", "aria-label": said });
  root.append(svg("text", { x: 1, y: 14, class: "strong" }, said));
  for (let place_ = 0; place_ < shown; place_ += 1) {
    const x = place_ * pitch + pitch / 2;
    const size = Math.min(10, pitch - 1.5);
    root.append(svg("rect", { x: x - size / 2, y: 26, width: size, height: 10, rx: 2, class: "token" }));
    const to = shared ? width / 2 : x;
    root.append(svg("path", { d: `M${x} 37C${x} 52 ${to} 46 ${to} 62`, class: "thread" }));
    if (!shared) root.append(svg("rect", { x: x - size / 2, y: 62, width: size, height: 38, rx: 1.5, class: "layer lit" }));
  }
  if (shared) root.append(svg("rect", { x: width / 2 - Math.min(10, pitch - 1.5) / 2, y: 62, width: Math.min(10, pitch - 1.5), height: 38, rx: 1.5, class: "layer lit" }));
  const each = tokens > shown ? `each square stands for ${number(tokens / shown)} tokens` : "";
  root.append(svg("text", { x: 1, y: 114, class: "faint" }, each));
  return root;
}

