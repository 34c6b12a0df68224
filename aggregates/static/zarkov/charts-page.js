// Pages with charts (a chart, a dashboard, an aggregate, an embedded one): one stream feeds all of them.

import { ChartView } from "./chart.js";
import { copyButtons, make } from "./dom.js";
import { LiveStream, showStatus } from "./live.js";
import { readableZone } from "./zone.js";

const root = document.querySelector("[data-charts]") ?? document.querySelector("[data-stream]");
const views = new Map([...document.querySelectorAll("figure.chart")].map((figure) => [figure.dataset.name ?? "", new ChartView(figure)]));

const RANGE = ["from", "to", "tz"];
const buttons = [...document.querySelectorAll(".ranges button")];
const showLive = showStatus(document.querySelector(".live-status"));

const stream = new LiveStream(
  root.dataset.stream,
  {
    series: (data, name) => views.get(name)?.series(data),
    points: (data, name) => views.get(name)?.points(data),
    problem: (data, name) => views.get(name)?.problem(data),
  },
  (status, code, body) => {
    showLive(status, code);
    if (status === "ended" && body?.error?.message) for (const view of views.values()) view.problem(body);
  },
).listenTo([...views.keys()]);

// Open the stream of a range {from, to, tz}; what is not given is the charts' own.
function open(range) {
  const url = new URL(root.dataset.stream, location.href);
  for (const [name, text] of Object.entries(range)) url.searchParams.set(name, text);
  stream.open(url.href);
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    const range = button.dataset.own !== undefined ? {} : { from: button.dataset.from };
    remember(range);
    show(range);
    open(range);
  });
}

// Keep the chosen range in the address, so that a reload or a copied link shows the same.
function remember(range) {
  const here = new URL(location.href);
  for (const name of RANGE) here.searchParams.delete(name);
  for (const [name, text] of Object.entries(range)) here.searchParams.set(name, text);
  history.replaceState(null, "", here);
}

// Return the range in the address. Where no range can be chosen, the address has none either.
function remembered() {
  const given = new URLSearchParams(location.search);
  const named = buttons.length ? RANGE.filter((name) => given.has(name)) : [];
  const text = (name) => (name === "tz" ? given.get(name).replaceAll(" ", "+") : given.get(name)); // as the server reads Etc/GMT+5
  return Object.fromEntries(named.map((name) => [name, text(name)]));
}

// Press the button of a range; in words, if there is none for it.
function show(range) {
  const { from, to, tz } = range;
  const chosen = to || tz ? undefined : buttons.find((button) => (from === undefined ? button.dataset.own !== undefined : button.dataset.from === from));
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  const words = [from && to ? `${from} – ${to}` : from ? `from ${from}` : to ? `until ${to}` : "", tz].filter(Boolean).join(", ");
  document.querySelector(".ranges .chosen")?.remove();
  if (!chosen && words) buttons[0]?.parentElement.append(make("span", { class: "chosen" }, words));
  for (const view of views.values()) view.setZone(tz && readableZone(tz) === tz ? tz : undefined);
}

// In the form for a new chart, the preview follows the choices.
document.querySelector("form [name=kind]")?.addEventListener("change", (event) => {
  for (const view of views.values()) view.setKind(event.target.value);
});
document.querySelector("form [name=start]")?.addEventListener("change", (event) => {
  const range = { from: event.target.value };
  show(range);
  open(range);
});

copyButtons();
show(remembered());
open(remembered());
