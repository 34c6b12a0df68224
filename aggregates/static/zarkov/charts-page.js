// Pages with charts (a chart, a dashboard, an aggregate, an embedded one): one stream feeds all of them.

import { ChartView } from "./chart.js";
import { copyButtons } from "./dom.js";
import { LiveStream, showStatus } from "./live.js";

const root = document.querySelector("[data-charts]") ?? document.querySelector("[data-stream]");
const views = new Map([...document.querySelectorAll("figure.chart")].map((figure) => [figure.dataset.name ?? "", new ChartView(figure)]));

const stream = new LiveStream(
  root.dataset.stream,
  {
    series: (data, name) => views.get(name)?.series(data),
    points: (data, name) => views.get(name)?.points(data),
    problem: (data, name) => views.get(name)?.problem(data),
  },
  showStatus(document.querySelector(".live-status")),
).listenTo([...views.keys()]);

function open(from) {
  const url = new URL(root.dataset.stream, location.href);
  if (from !== undefined) url.searchParams.set("from", from);
  stream.open(url.href);
}

for (const button of document.querySelectorAll(".ranges button")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll(".ranges button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    const from = button.dataset.own !== undefined ? undefined : button.dataset.from;
    remember(from);
    open(from);
  });
}

// Keep the chosen range in the address, so that a reload or a copied link shows the same.
function remember(from) {
  const here = new URL(location.href);
  if (from === undefined) here.searchParams.delete("from");
  else here.searchParams.set("from", from);
  history.replaceState(null, "", here);
}

function remembered() {
  const from = new URLSearchParams(location.search).get("from") ?? undefined;
  const chosen = [...document.querySelectorAll(".ranges button")].find((button) => button.dataset.from === from);
  if (from === undefined || !chosen) return undefined;
  for (const button of document.querySelectorAll(".ranges button")) {
    button.setAttribute("aria-pressed", String(button === chosen));
  }
  return from;
}

// In the form for a new chart, the preview follows the choices.
document.querySelector("form [name=kind]")?.addEventListener("change", (event) => {
  for (const view of views.values()) view.setKind(event.target.value);
});
document.querySelector("form [name=start]")?.addEventListener("change", (event) => open(event.target.value));

copyButtons();
open(remembered());
