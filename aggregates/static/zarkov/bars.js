// Horizontal bars for keys that are not dates, as HTML: readable at every width and by screen readers.

import { colorOf, make } from "./dom.js";
import { exact } from "./format.js";

export function drawBars(element, state, unit, limit) {
  const rows = state.series
    .flatMap((series, index) => series.data.map(([x, y]) => ({ x, y: y ?? null, field: series.field, index })))
    .sort(byValue);
  const largest = rows.reduce((size, row) => Math.max(size, Math.abs(Number(row.y))), 0) || 1;
  const several = state.series.length > 1;
  const list = make("ol", { class: "bars" });
  for (const row of rows.slice(0, limit)) {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${Math.max((Math.abs(Number(row.y)) / largest) * 100, 0.5)}%`;
    bar.style.background = colorOf(several ? row.index : 0);
    if (row.y < 0) bar.classList.add("below");
    const name = String(row.x) + (several ? ` · ${row.field}` : "");
    list.append(
      make(
        "li",
        {},
        make("span", { class: "bar-name", title: name }, name),
        make("span", { class: "bar-track" }, bar),
        make("span", { class: "bar-value" }, exact(row.y, unit)),
      ),
    );
  }
  element.replaceChildren(list);
  if (rows.length > limit) element.append(make("p", { class: "muted" }, `The largest ${limit} of ${rows.length}.`));
}

// Largest first; what is no number comes last. Values can be BigInt, which cannot be subtracted from a number.
function byValue(a, b) {
  if (a.y === null || b.y === null) return (a.y === null) - (b.y === null);
  return a.y < b.y ? 1 : a.y > b.y ? -1 : 0;
}
