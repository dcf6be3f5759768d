// A plot with two axes, drawn at the width it has, so that its text stays readable on a phone.

import { svg } from "lab/elements";

export const linear = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low)) * (to - from);
export const logarithmic = ([low, high], range) => {
  const scale = linear([Math.log10(low), Math.log10(high)], range);
  return (value) => scale(Math.log10(value));
};

/** Powers of ten between two values. */
export function decades([low, high]) {
  const found = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) found.push(10 ** power);
  return found;
}

/**
 * x, y: {domain, log, ticks, format, label}. Returns {root, across, down, box, plot}; what is drawn into `plot` is cut
 * at the axes.
 */
export function chart(place, { height, x, y, label, left = 46, right = 14, top = 14, bottom = 44 }) {
  const width = Math.max(260, place.clientWidth);
  const box = { left, right: width - right, top, bottom: height - bottom };
  const across = (x.log ? logarithmic : linear)(x.domain, [box.left, box.right]);
  const down = (y.log ? logarithmic : linear)(y.domain, [box.bottom, box.top]);
  const grid = svg("g", { class: "grid" });
  let last = -Infinity;
  for (const tick of x.ticks) {
    const at = across(tick);
    grid.append(svg("path", { d: `M${at} ${box.top}V${box.bottom}` }));
    const text = x.format(tick);
    if (at - last < 9 + 6.5 * text.length) continue;
    last = at;
    const half = 3.4 * text.length; // of its width, so that no tick is cut at an edge
    const anchor = at - half < 0 ? "start" : at + half > width ? "end" : "middle";
    grid.append(svg("text", { x: anchor === "start" ? 0 : anchor === "end" ? width : at, y: box.bottom + 16, "text-anchor": anchor }, text));
  }
  for (const tick of y.ticks) {
    const at = down(tick);
    grid.append(svg("path", { d: `M${box.left} ${at}H${box.right}` }));
    grid.append(svg("text", { x: box.left - 7, y: at + 4, "text-anchor": "end" }, y.format(tick)));
  }
  grid.append(svg("text", { class: "axis", x: box.right, y: height - 8, "text-anchor": "end" }, x.label));
  if (y.label) grid.append(svg("text", { class: "axis", x: box.left + 6, y: box.top + 12 }, y.label));
  clips += 1;
  const clip = `clip-${clips}`;
  const frame = svg("rect", { x: box.left, y: box.top - 6, width: box.right - box.left, height: box.bottom - box.top + 12 });
  const plot = svg("g", { "clip-path": `url(#${clip})` });
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    svg("clipPath", { id: clip }, frame), grid, plot);
  return { root, across, down, box, plot, width, height };
}

let clips = 0;

export const line = (points, { across, down }, attributes) =>
  svg("path", { fill: "none", d: points.map(([x, y], n) => `${n ? "L" : "M"}${across(x).toFixed(1)} ${down(y).toFixed(1)}`).join(""), ...attributes });

/** Puts a drawing into its place. */
export const show = (place, ...drawings) => place.replaceChildren(...drawings);
