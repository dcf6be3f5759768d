// Numbers for people: three significant digits, as they come.

const LARGE = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  if (size < 0.001) return value.toExponential(2).replace("e-", "e−");
  return String(Number(value.toPrecision(3)));
}

/** An exact count, with separators. */
export const count = (value) => value.toLocaleString("en-US");

/** With the prefix that makes it short: 1.6e10, "B" is 16 GB. */
export function scaled(value, unit) {
  for (const [size, prefix] of LARGE) {
    if (value >= size) return `${number(Number((value / size).toPrecision(3)))} ${prefix}${unit}`;
  }
  return `${number(value)} ${unit}`;
}

export const bytes = (value) => scaled(value, "B");
export const flops = (value) => scaled(value, "FLOP");
export const percent = (share) => `${number(Number((100 * share).toPrecision(3)))} %`;
export const times = (value) => `${number(value)}×`;

export function seconds(value) {
  for (const [size, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) {
    if (value >= size) return `${number(Number((value / size).toPrecision(3)))} ${unit}`;
  }
  return `${number(Number((value * 1e9).toPrecision(3)))} ns`;
}
