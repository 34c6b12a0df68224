// The overview page: live numbers, events and aggregates from its stream.

import { Colors, copyButtons, dotOf, make } from "./dom.js";
import { ago, compact, exact } from "./format.js";
import { LiveStream, showStatus } from "./live.js";
import { write } from "./parse.js";
import { Plot } from "./plot.js";
import { nameOf } from "./series.js";

const root = document.querySelector("[data-stream]");
const byId = (id) => document.getElementById(id);
let state;
let plot;
const colors = new Colors();
let skewMs = 0; // how far the server's clock is ahead of this one

function overview(data) {
  state = data;
  skewMs = data.now * 1000 - Date.now();
  numbers();
  rates();
  latest();
  aggregates();
}

function numbers() {
  const perSecond = rateNow();
  const lags = state.aggregates.map((item) => item.lag);
  byId("stored").textContent = exact(state.newest_id);
  byId("rate").textContent = compact(perSecond);
  byId("lag").textContent = lags.length ? compact(Math.max(...lags.map(Number))) : "–";
  byId("quarantine").textContent = exact(state.quarantine);
  byId("jobs").textContent = exact(state.jobs.running);
  byId("jobs-failed").textContent = state.jobs.failed ? `${exact(state.jobs.failed)} failed` : "none failed";
}

// Events per second, as the mean of the last five whole seconds.
function rateNow() {
  const second = Math.floor((Date.now() + skewMs) / 1000);
  let sum = 0;
  for (const [when, counts] of state.rates) {
    if (when < second && when >= second - 5) sum += Object.values(counts).reduce((a, b) => a + b, 0);
  }
  return Math.round((sum / 5) * 10) / 10;
}

function rates() {
  const last = Math.floor((Date.now() + skewMs) / 1000);
  const types = [...new Set(state.rates.flatMap(([, counts]) => Object.keys(counts)))].sort();
  const bySecond = new Map(state.rates);
  const series = (types.length ? types : ["events"]).map((type) => ({
    label: type,
    key: type,
    field: "value",
    data: Array.from({ length: state.window_s }, (_, i) => {
      const second = last - state.window_s + 1 + i;
      return [second * 1000, bySecond.get(second)?.[type] ?? 0];
    }),
  }));
  plot ??= new Plot(byId("rates"), { kind: "stacked", zone: root.dataset.zone, unit: "", label: "Events per second by type", colors });
  plot.show({ series, step: "second" });
  byId("no-rates").hidden = state.rates.some(([second]) => second > last - state.window_s);
  if (byId("types").dataset.types !== types.join("\u0000")) {
    byId("types").dataset.types = types.join("\u0000");
    const numbers = colors.of(series.map(nameOf));
    byId("types").replaceChildren(...types.map((type, index) => make("li", {}, dotOf(numbers[index]), type)));
  }
}

function latest() {
  const known = new Set([...byId("latest").children].map((row) => row.dataset.id));
  const rows = state.latest.map((event) => {
    const row = make(
      "li",
      { "data-id": event._id, class: known.size && !known.has(String(event._id)) ? "new" : undefined },
      make("span", { class: "pill" }, event.type),
      make("span", { class: "event-context" }, summary(event.context)),
      make("time", { datetime: event.timestamp, title: event.timestamp }, ago(event.timestamp, Date.now() + skewMs)),
    );
    return row;
  });
  byId("latest").replaceChildren(...rows);
  byId("no-events").hidden = rows.length > 0;
  if (!rows.length && !byId("send").dataset.shown) byId("send").open = byId("send").dataset.shown = true;
}

function summary(context) {
  return Object.entries(context ?? {})
    .slice(0, 4)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? write(value) : value}`)
    .join("  ·  ");
}

function aggregates() {
  const rows = state.aggregates.map((item) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, make("a", { href: `${root.dataset.aggregates}${encodeURIComponent(item.name)}/` }, item.name)),
      make("td", { class: "number" }, item.lag ? `${exact(item.lag)} events` : "up to date"),
      make("td", {}, item.complete_through ? ago(item.complete_through, Date.now() + skewMs) : "never run"),
      make("td", {}, make("span", { class: `state ${item.running ? "running" : "calm"}` }, item.running ? "running" : "idle")),
    ),
  );
  byId("aggregates").replaceChildren(...rows);
  byId("no-aggregates").hidden = rows.length > 0;
}

copyButtons();
new LiveStream(root.dataset.stream, { pulse: overview }, showStatus(document.querySelector(".live-status"))).open();
setInterval(() => {
  if (state && !document.hidden) {
    rates();
    byId("rate").textContent = compact(rateNow());
  }
}, 1000);
