// "Run it": the real engine, on this machine, each weight stream shown as it ends.

import { show } from "lab/chart";
import { html, svg } from "lab/elements";
import { count, number, percent, scaled, seconds, times } from "lab/format";

/** Lines of JSON as they arrive. */
async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    held += value;
    const parts = held.split("\n");
    held = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

/** A button that runs a model, and what comes of it. asks: a function that gives requests, to run one after the other. */
export class Run {
  constructor(place, lab, { title, asks, onEvent = () => {} }) {
    this.lab = lab;
    this.asks = asks;
    this.onEvent = onEvent;
    this.button = html("button", { type: "button", "data-run": "" }, title);
    this.state = html("span", { role: "status" });
    this.text = html("p", { class: "spoken" });
    this.strip = html("div", {});
    this.verdict = html("p", { class: "verdict", "aria-live": "polite" });
    this.onMap = html("button", { type: "button", class: "quiet", hidden: true }, "Show it on the map");
    this.shown = html("div", { class: "shown", hidden: true }, this.strip, this.text, this.verdict, this.onMap);
    this.onMap.addEventListener("click", () => lab.showRuns(this.model));
    place.append(html("div", { class: "run" }, html("p", { class: "starter" }, this.button, this.state), this.shown));
    this.title = title;
    this.button.addEventListener("click", () => (this.stop ? this.stop.abort() : this.#start()));
  }

  /** Puts away what a run showed. */
  hide() {
    this.shown.hidden = true;
    this.state.textContent = "";
  }

  async #start() {
    this.stop = new AbortController();
    this.button.textContent = "Stop";
    this.state.textContent = "loading …";
    this.state.classList.remove("alarm");
    this.shown.hidden = false;
    this.text.textContent = "";
    this.verdict.textContent = "";
    try {
      for (const asked of this.asks()) {
        this.model = asked.model;
        this.steps = [];
        this.text.textContent = "";
        const answer = await fetch("/api/run", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked), signal: this.stop.signal });
        if (!answer.ok) throw new Error((await answer.json()).error);
        for await (const event of lines(answer)) this.#take(event);
      }
    } catch (error) {
      this.state.textContent = error.name === "AbortError" ? "stopped" : error.message;
      this.state.classList.toggle("alarm", error.name !== "AbortError");
    } finally {
      this.stop = null;
      this.button.textContent = this.title;
    }
  }

  #take(event) {
    if (event.event === "error") throw new Error(event.error);
    if (event.event === "start") this.state.textContent = `${event.model} on ${event.machine}`;
    if (event.text) this.text.textContent += event.text;
    if (event.event === "step") {
      this.steps.push(event);
      this.#strip();
    }
    if (event.event === "end") {
      const { report } = event;
      const gain = event.points.at(-1)?.gain;
      const over = gain && gain !== 1 ? ` That is ${times(gain)} plain decoding of one request.` : "";
      this.verdict.textContent = `${number(report.decode_tokens_per_second)} tokens per second, ${percent(report.roof_fraction)} of the roof (${report.bound}-bound); ${count(report.tokens)} tokens from ${count(report.weight_streams)} weight streams.${over}${report.notes.length ? ` (${report.notes.join("; ")})` : ""}`;
      this.onMap.hidden = false;
      this.lab.measured(event.points);
    }
    this.onEvent(event);
  }

  /** A bar for each weight stream: how long it took; a tick where it was expected, the dark part what the roof allows. */
  #strip() {
    const width = Math.max(240, this.strip.clientWidth);
    const steps = this.steps.filter((step) => !step.prefill).slice(-96);
    const high = 84;
    const most = Math.max(1e-9, ...steps.map((step) => Math.max(step.seconds, step.expected)));
    const pitch = Math.min(12, width / Math.max(24, steps.length));
    const y = (value) => (high - 16) * (1 - value / most) + 2;
    const root = svg("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": `${count(this.steps.length)} weight streams` });
    steps.forEach((step, place) => {
      const x = place * pitch;
      root.append(
        svg("rect", { x, y: y(step.seconds), width: pitch - 1.5, height: high - 14 - y(step.seconds), class: "took" }),
        svg("rect", { x, y: y(step.floor), width: pitch - 1.5, height: high - 14 - y(step.floor), class: "layer lit" }),
        svg("rect", { x, y: y(step.expected) - 1, width: pitch - 1.5, height: 2, class: "tick" }),
      );
      if (step.committed > step.requests) root.append(svg("circle", { cx: x + (pitch - 1.5) / 2, cy: y(step.seconds) - 5, r: 2.5, class: "more" }));
    });
    const last = steps.at(-1);
    if (last) root.append(svg("text", { x: 1, y: high - 2, class: "faint" }, `last stream ${seconds(last.seconds)}; floor ${seconds(last.floor)}, expected ${seconds(last.expected)}; ${scaled(last.bytes, "B")}, ${count(last.committed)} token${last.committed === 1 ? "" : "s"}`));
    show(this.strip, root);
  }
}
