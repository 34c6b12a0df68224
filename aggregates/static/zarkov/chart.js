// One chart on a page: draws its kind, and updates legend, table and summary with the data.

import { drawBars } from "./bars.js";
import { Colors, dotOf, make } from "./dom.js";
import { compact, exact, moment, zoneBeside } from "./format.js";
import { Plot } from "./plot.js";
import { applyChange, isTime, nameOf, zoneOf } from "./series.js";
import { drawTable } from "./table.js";
import { zoneNote } from "./zone.js";

export class ChartView {
  // `figure` has data-kind, data-zone, data-unit, data-title and contains .canvas, .legend, .table-body, .announce.
  constructor(figure) {
    this.figure = figure;
    this.name = figure.dataset.name ?? "";
    this.kind = figure.dataset.kind;
    this.zone = figure.dataset.zone;
    this.unit = figure.dataset.unit ?? "";
    this.colors = new Colors();
    this.canvas = figure.querySelector(".canvas");
    this.legend = figure.querySelector(".legend");
    this.details = figure.querySelector("details");
    this.announcer = figure.querySelector(".announce");
    this.details?.addEventListener("toggle", () => this.table());
    this.reset = figure.querySelector(".reset-zoom");
    this.reset?.addEventListener("click", () => this.plot?.resetZoom());
  }

  series(state) {
    this.state = state;
    this.draw();
  }

  points(change) {
    if (!this.state) return;
    applyChange(this.state, change);
    this.draw();
  }

  problem(body) {
    if (this.state) return;
    this.clear();
    this.canvas.append(make("p", { class: "empty", role: "alert" }, body.error?.message ?? "This cannot be shown."));
  }

  draw() {
    const state = this.state;
    this.figure.dataset.through = state.through ?? "";
    if (!state.series.some((series) => series.data.length)) {
      this.clear();
      this.canvas.append(make("p", { class: "empty" }, "No numbers in this range yet."));
    } else if (this.kind === "table") {
      drawTable(this.canvas, state, this);
    } else if (!isTime(state)) {
      this.clear();
      drawBars(this.canvas, state, this.unit, this.figure.dataset.size === "large" ? 40 : 10);
    } else if (this.kind === "number") {
      this.number();
    } else {
      this.time();
    }
    this.notes();
    this.table();
    this.summarize();
    this.figure.dataset.drawn = String(Number(this.figure.dataset.drawn ?? 0) + 1);
  }

  time() {
    if (!this.plot) {
      this.canvas.replaceChildren();
      this.plot = this.makePlot(this.canvas, this.kind, false);
    }
    this.plot.show(this.state);
    this.drawLegend();
  }

  number() {
    const series = this.state.series.find((each) => each.data.length);
    const [x, y] = series.data[series.data.length - 1];
    const before = series.data.length > 1 ? series.data[series.data.length - 2][1] : null;
    if (!this.big) {
      this.big = make("p", { class: "big-number" });
      this.trend = make("p", { class: "trend" });
      const small = make("div", { class: "spark" });
      this.canvas.replaceChildren(this.big, this.trend, small);
      this.plot = this.makePlot(small, "area", true);
    }
    this.big.title = exact(y, this.unit);
    this.big.replaceChildren(compact(y), ...(this.unit ? [make("small", {}, ` ${this.unit}`)] : []));
    const [step, zone] = [this.state.step, zoneOf(this.state, this.zone)];
    this.trend.textContent = `${trendWords(y, before)} · ${moment(x, step, zone)} ${zoneBeside(step, zone)}`.trimEnd();
    this.plot.show({ ...this.state, series: [series] });
  }

  makePlot(element, kind, small) {
    return new Plot(element, {
      kind,
      small,
      zone: this.zone,
      unit: this.unit,
      colors: this.colors,
      label: this.figure.dataset.title ?? "Chart",
      announce: (text) => this.announcer && (this.announcer.textContent = text),
      onZoom: (zoomed) => this.reset && (this.reset.hidden = !zoomed),
    });
  }

  // Name times in another zone, or in the chart's own if there is none.
  setZone(zone) {
    const named = zone ?? this.figure.dataset.zone;
    if (named === this.zone) return;
    this.zone = named;
    this.clear();
    if (this.state) this.draw();
  }

  // Draw the same data as another kind.
  setKind(kind) {
    this.kind = this.figure.dataset.kind = kind;
    this.clear();
    if (this.state) this.draw();
  }

  clear() {
    this.plot?.destroy();
    this.plot = undefined;
    this.big = undefined;
    this.canvas.replaceChildren();
    this.legend?.replaceChildren();
    this.legendNames = undefined;
  }

  drawLegend() {
    const names = this.state.series.map((series) => series.label).join("\u0000");
    if (!this.legend || names === this.legendNames) return;
    this.legendNames = names;
    const numbers = this.colors.of(this.state.series.map(nameOf));
    this.legend.replaceChildren(...this.state.series.map((series, index) => this.legendButton(series, index, numbers[index])));
    if (this.state.omitted) {
      this.legend.append(make("span", { class: "muted" }, `and ${this.state.omitted} smaller series`));
    }
  }

  legendButton(series, index, color) {
    const button = make("button", { type: "button", "aria-pressed": "true" }, dotOf(color), series.label);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      this.plot.toggle(index, on);
    });
    return button;
  }

  table() {
    const body = this.figure.querySelector(".table-body");
    if (body && this.details?.open && this.state) drawTable(body, this.state, this);
  }

  // Say below the picture what is left out of it, and if its times are those of another zone.
  notes() {
    const { outliers = 0, later = 0, undated = 0 } = this.state;
    const parts = [];
    if (outliers) parts.push(`${outliers} ${outliers > 1 ? "values" : "value"} far from the others or between two periods`);
    if (later) parts.push(`${later} ${later > 1 ? "values" : "value"} after now`);
    if (undated) parts.push(`${undated} ${undated > 1 ? "keys that are no dates" : "key that is no date"}`);
    this.note?.remove();
    const sentences = parts.length ? [`Not shown: ${parts.join("; ")}.`] : [];
    if (isTime(this.state)) sentences.push(zoneNote(zoneOf(this.state, this.zone)));
    const text = sentences.filter(Boolean).join(" ");
    this.note = text ? make("p", { class: "muted left-out" }, text) : undefined;
    if (this.note) (this.legend ?? this.canvas).after(this.note);
  }

  // One sentence for screen readers.
  summarize() {
    const summary = this.figure.querySelector(".summary");
    if (!summary) return;
    const parts = this.state.series.slice(0, 4).map((series) => {
      const last = series.data[series.data.length - 1];
      return last ? `${series.label}: ${exact(last[1], this.unit)}` : series.label;
    });
    summary.textContent = `${this.state.series.length} series. Latest values: ${parts.join("; ")}.`;
  }
}

function trendWords(now, before) {
  if (before === null || before === undefined || now === null) return "no earlier value";
  const change = (Number(now) / Math.abs(Number(before)) - Math.sign(Number(before))) * 100;
  if (Math.abs(change) < 0.05 || now == before) return "unchanged";
  if (!Number.isFinite(change)) return `${now > before ? "▲" : "▼"} from ${compact(before)}`; // from 0, or nearly
  const word = Math.abs(change) >= 1000 ? compact(change) : change.toFixed(1);
  return `${change > 0 ? "▲ +" : "▼ "}${word} % compared with the previous period`;
}
