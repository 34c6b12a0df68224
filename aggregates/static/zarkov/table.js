// The numbers of a chart as a table, newest first.

import { make } from "./dom.js";
import { exact, moment, zoneBeside } from "./format.js";
import { align, isTime, zoneOf } from "./series.js";

const MAX_ROWS = 500;

export function drawTable(element, state, { zone, unit }) {
  const time = isTime(state);
  let [xs, ...columns] = [[]];
  if (time) {
    [xs, ...columns] = align(state.series);
  } else {
    xs = [...new Set(state.series.flatMap((series) => series.data.map((point) => point[0])))];
    columns = state.series.map((series) => {
      const have = new Map(series.data);
      return xs.map((x) => have.get(x));
    });
  }
  const beside = time && zoneBeside(state.step, zoneOf(state, zone));
  const head = make(
    "tr",
    {},
    make("th", { scope: "col" }, time ? `Period${beside ? ` (${beside})` : ""}` : "Key"),
    ...state.series.map((series) => make("th", { scope: "col", class: "number" }, series.label)),
  );
  const body = make("tbody");
  const order = [...xs.keys()];
  if (time) order.reverse();
  for (const i of order.slice(0, MAX_ROWS)) {
    const name = time ? moment(xs[i], state.step, zoneOf(state, zone)) : String(xs[i]);
    body.append(
      make(
        "tr",
        {},
        make("th", { scope: "row" }, name),
        ...columns.map((ys) => make("td", { class: "number" }, exact(ys[i], unit))),
      ),
    );
  }
  const scroll = make("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Data" });
  scroll.append(make("table", {}, make("thead", {}, head), body));
  element.replaceChildren(scroll);
  if (order.length > MAX_ROWS) {
    element.append(make("p", { class: "muted" }, `The ${time ? "newest" : "first"} ${MAX_ROWS} of ${order.length} rows.`));
  }
}
