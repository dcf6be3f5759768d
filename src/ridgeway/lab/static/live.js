// Figure 5, live: a diffusion model writes an answer here, and each position shows what it becomes and when.

import { html } from "lab/elements";
import { count, number, percent } from "lab/format";
import { Run } from "lab/run";

const TOKENS = 48;
const WHOLE = 64; // a block that holds prompt and answer

export class LiveDiffusion {
  constructor(place, lab, model) {
    this.cells = [];
    this.board = html("div", { class: "board", hidden: true, role: "img", "aria-label": "The answer as it is filled in" });
    this.said = html("p", { class: "passes" });
    const ways = [
      ["token by token", () => "block-diffusion:block=1"],
      ["whole answer at once", () => `block-diffusion:block=${WHOLE}`],
      ["block by block", () => `block-diffusion:block=${Math.min(16, lab.state.block)}`],
    ];
    const about = lab.boot.runnable.find((one) => one.name === model).about;
    const buttons = html("div", { class: "ways" });
    place.append(html("p", { class: "passes about" }, `To run here, ${about}.`), buttons, this.said, this.board);
    const runs = ways.map(([title, method]) => {
      const run = new Run(buttons, lab, {
        title: `Run it: ${title}`,
        asks: () => [{ model, method: method(), max_tokens: TOKENS, trace: true }],
        onEvent: (event) => {
          if (event.event === "start") runs.filter((other) => other !== run).forEach((other) => other.hide());
          this.#take(event);
        },
      });
      return run;
    });
  }

  #take(event) {
    if (event.event === "start") this.#begin(event.max_tokens);
    if (event.event !== "revealed") return;
    this.passes += 1;
    this.rows += event.rows;
    for (const cell of this.cells) if (cell.className === "busy") cell.className = "blank";
    for (const place of event.computed) this.#set(place, "busy");
    for (const place of event.hidden) this.#set(place, "blank", "");
    for (const [place, text] of event.tokens) this.#set(place, "said", text);
    this.said.textContent = `${count(this.passes)} passes, ${count(this.rows)} rows; of the last one's ${count(event.rows)}, ${percent(Number(event.in_vain.toPrecision(3)))} were in vain. ${number(this.cells.filter((cell) => cell.className === "said").length)} of ${count(this.cells.length)} positions are filled in.`;
  }

  #begin(length) {
    this.passes = 0;
    this.rows = 0;
    this.cells = Array.from({ length }, () => html("span", { class: "blank" }));
    this.board.replaceChildren(...this.cells);
    this.board.hidden = false;
  }

  #set(place, kind, text) {
    const cell = this.cells[place];
    if (!cell) return;
    cell.className = kind;
    if (text !== undefined) cell.textContent = text;
  }
}
