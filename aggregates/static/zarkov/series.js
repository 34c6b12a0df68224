// Pure functions on the answers of series/: apply changes, and arrange series for drawing.
// A series is {label, key, field, data: [[x, y], ...]}, x in milliseconds (ascending) or the key itself.

export function applyChange(state, change) {
  const byName = new Map(state.series.map((series) => [nameOf(series), series]));
  for (const item of change.series) {
    const series = byName.get(nameOf(item));
    if (!series) continue;
    for (const x of item.gone) removePoint(series.data, x);
    for (const point of item.set) setPoint(series.data, point);
  }
  const { series: _ignored, ...rest } = change;
  return Object.assign(state, rest);
}

export function nameOf(series) {
  return `${series.key}\u0000${series.field}`;
}

// Whether x is a time. Without a step the keys are no dates, even if they are numbers.
export function isTime(state) {
  const first = state.series.find((series) => series.data.length);
  return Boolean(state.step) && first !== undefined && typeof first.data[0][0] === "number";
}

// The zone in which to name the periods: that of the viewer, but days and longer ones have the names of their own zone.
export function zoneOf(state, zone) {
  return state.key_zone ?? zone;
}

// First index of `data` whose x is not below `x`; data is sorted by x.
export function lowerBound(data, x) {
  let low = 0;
  let high = data.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

function setPoint(data, point) {
  if (typeof point[0] !== "number") {
    const found = data.find((other) => other[0] === point[0]);
    if (found) found[1] = point[1];
    else data.push(point);
    return;
  }
  const index = lowerBound(data, point[0]);
  if (index < data.length && data[index][0] === point[0]) data[index] = point;
  else data.splice(index, 0, point);
}

function removePoint(data, x) {
  const index = typeof x === "number" ? lowerBound(data, x) : data.findIndex((point) => point[0] === x);
  if (index >= 0 && index < data.length && data[index][0] === x) data.splice(index, 1);
}

// Columns over the union of all x: [xs, ys of series 0, ...]. A missing value is undefined (the line continues),
// null is a gap.
export function align(seriesList) {
  if (seriesList.length === 1) {
    const data = seriesList[0].data;
    const xs = new Array(data.length);
    const ys = new Array(data.length);
    for (let i = 0; i < data.length; i++) {
      xs[i] = data[i][0];
      ys[i] = data[i][1];
    }
    return [xs, ys];
  }
  const all = new Set();
  for (const series of seriesList) for (const point of series.data) all.add(point[0]);
  const xs = Float64Array.from(all).sort();
  const columns = seriesList.map((series) => {
    const ys = new Array(xs.length);
    let at = 0;
    for (const [x, y] of series.data) {
      while (xs[at] < x) at++;
      ys[at] = y;
    }
    return ys;
  });
  return [Array.from(xs), ...columns];
}

// A column as numbers; whole numbers beyond 2^53 come as BigInt, see parse.js.
export function numbers(ys) {
  return ys.some((y) => typeof y === "bigint") ? ys.map((y) => (typeof y === "bigint" ? Number(y) : y)) : ys;
}

// Columns stacked on each other, without the hidden ones. Where none has a value there is a gap; beside a value, one that
// is missing counts as 0.
export function stack(columns, shown) {
  const sums = new Float64Array(columns.length ? columns[0].length : 0);
  const visible = columns.filter((ys, index) => shown[index]);
  const gaps = Array.from(sums, (sum, i) => visible.every((ys) => ys[i] === null || ys[i] === undefined));
  return columns.map((ys, index) => {
    if (!shown[index]) return ys.map(() => null);
    return Array.from(ys, (y, i) => (gaps[i] ? null : (sums[i] += y ?? 0)));
  });
}
