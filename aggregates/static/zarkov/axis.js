// The value axis of a plot: its range, ticks and labels, for every number that a double can hold.
//
// uPlot subtracts, adds and multiplies values, and steps from tick to tick by addition. So values that would overflow or
// vanish are divided by a power of two before uPlot sees them, which loses nothing; a range is never so narrow that a
// step is lost beside the value it is added to; and each tick is computed by itself.

import { compact, digits, exact } from "./format.js";

const LARGEST = 2 ** 960;
const SMALLEST = 2 ** -960;
const LONGEST_STEP = 1e308; // the last power of ten; every larger distance of ticks is none that doubles have
const FLAT = 2 ** -46; // values whose spread is a smaller part of their size are drawn as one
const MARGIN = 0.06; // part of the range

// Return the power of two by which to divide these columns of values before they are added or drawn; usually 1.
export function divisorOf(columns) {
  let size = 0;
  for (const ys of columns) {
    for (const y of ys) {
      const here = Math.abs(y);
      if (here > size) size = here;
    }
  }
  if (size > LARGEST) return 2 ** 128;
  return size > 0 && size < SMALLEST ? 2 ** -512 : 1;
}

// Return [bottom, top] for values from `low` to `high` (neither is a number if there are none), with 0 if asked.
export function valueRange(low, high, withZero) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1];
  let bottom = withZero ? Math.min(low, 0) : low;
  let top = withZero ? Math.max(high, 0) : high;
  const size = Math.max(Math.abs(bottom), Math.abs(top));
  if (size === 0) return [0, 1 + MARGIN];
  if (top - bottom < size * FLAT) {
    bottom -= size;
    top += size;
  }
  const margin = (top - bottom) * MARGIN;
  return [withZero && bottom === 0 ? 0 : bottom - margin, withZero && top === 0 ? 0 : top + margin];
}

// Return the ticks between `min` and `max`, at most `most`: multiples of 1, 2, 5 (or 25 and more) times a power of ten.
// All three are divided by `divisor`, the ticks are round before that. Distances above 1 are whole numbers.
export function valueTicks(min, max, most, divisor) {
  const least = Math.min(((max - min) / Math.max(most, 1)) * divisor, LONGEST_STEP);
  const [factor, exponent] = distance(least);
  const step = Number(`${factor}e${exponent}`) / divisor;
  const ticks = [];
  const last = Math.floor(max / step);
  for (let count = Math.ceil(min / step); count <= last && ticks.length <= most; count++) {
    const tick = Number(`${count * factor}e${exponent}`) / divisor;
    if (Number.isFinite(tick)) ticks.push(tick === 0 ? 0 : tick);
  }
  return ticks;
}

// Return the smallest distance of ticks that is at least `least`, as [factor, exponent of ten].
function distance(least) {
  const start = Math.max(Math.floor(Math.log10(least || Number.MIN_VALUE)) - 1, -324);
  for (let exponent = start; ; exponent++) {
    for (const factor of exponent > 0 ? [1, 2, 2.5, 5] : [1, 2, 5]) {
      const step = Number(`${factor}e${exponent}`);
      if (step > 0 && step >= least) return [factor, exponent];
    }
  }
}

// Return a label for each tick: the shortest form in which no two are alike.
export function tickLabels(ticks) {
  for (const form of [compact, exact, (tick) => digits(tick, 15)]) {
    const labels = ticks.map((tick) => form(tick));
    if (new Set(labels).size === ticks.length) return labels;
  }
  return ticks.map((tick) => digits(tick, 17));
}

// Width of the value axis, which fits its longest label.
export function valueAxisWidth(u, labels) {
  return Math.max(44, 16 + 7 * Math.max(0, ...(labels ?? []).map((label) => label?.length ?? 0)));
}
