// Time series drawn by uPlot: lines, areas, stacked areas and bars, with zoom, hover and keyboard.

import uPlot from "../npm/uplot/uPlot.esm.js";
import { divisorOf, tickLabels, valueAxisWidth, valueRange, valueTicks } from "./axis.js";
import { COLORS, Colors, colorOf, cssValue, dotOf, make } from "./dom.js";
import { exact, moment, stepMs, zoneBeside } from "./format.js";
import { align, nameOf, numbers, stack, zoneOf } from "./series.js";
import { timeAxis } from "./time-axis.js";

const [SHORTEST_MS, LONGEST_MS] = [10, 4e14]; // what zooming by keyboard can show
const MINUTE_MS = 6e4;

export class Plot {
  // options: {kind, zone, unit, label, small, colors, announce(text)}
  constructor(element, options) {
    this.element = element;
    this.options = options;
    this.shown = [];
    this.colors = options.colors ?? new Colors();
    this.zoomed = false;
    this.tooltip = make("div", { class: "tooltip", hidden: true, "aria-hidden": "true" });
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(element);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.rebuild());
    if (!options.small) {
      element.tabIndex = 0;
      element.setAttribute("role", "group");
      element.setAttribute("aria-label", `${options.label}. Arrow keys read values, plus and minus zoom.`);
      element.addEventListener("keydown", (event) => this.key(event));
    }
  }

  show(state) {
    const names = state.series.map((series) => series.label).join("\u0000");
    this.state = state;
    this.colorNumbers = this.colors.of(state.series.map(nameOf));
    if (this.shown.length !== state.series.length) this.shown = state.series.map(() => true);
    if (!this.plot || names !== this.names) {
      this.names = names;
      this.rebuild();
      return;
    }
    const divisor = this.divisor;
    this.updateData();
    if (divisor !== this.divisor) {
      this.rebuild();
      return;
    }
    this.plot.setData(this.data, !this.zoomed);
    if (this.zoomed) this.plot.redraw();
  }

  toggle(index, on) {
    this.shown[index] = on;
    if (!this.stacked) {
      this.plot.setSeries(index + 1, { show: on });
      return;
    }
    const { min, max } = this.plot.scales.x;
    const zoomed = this.zoomed;
    this.rebuild();
    if (zoomed) this.plot.setScale("x", { min, max });
  }

  get zone() {
    return zoneOf(this.state, this.options.zone);
  }

  get stacked() {
    return this.options.kind === "stacked";
  }

  updateData() {
    const [xs, ...columns] = align(this.state.series);
    this.columns = columns;
    const values = columns.map(numbers);
    this.divisor = divisorOf(values);
    const drawn = this.divisor === 1 ? values : values.map((ys) => ys.map((y) => y && y / this.divisor));
    this.data = [xs, ...(this.stacked ? stack(drawn, this.shown) : drawn)];
  }

  rebuild() {
    if (!this.state) return;
    this.plot?.destroy();
    this.updateData();
    this.zoomed = false;
    this.plot = new uPlot(this.config(), this.data, this.element);
    this.element.append(this.tooltip);
    if (this.options.unit && !this.options.small) {
      this.unit ??= make("span", { class: "unit", "aria-hidden": "true" }, this.options.unit);
      this.element.append(this.unit);
    }
    this.shown.forEach((on, index) => on || this.plot.setSeries(index + 1, { show: false }));
  }

  resize() {
    const { width, height } = this.size();
    if (this.plot && width > 0 && (width !== this.plot.width || height !== this.plot.height)) {
      this.plot.setSize({ width, height });
    }
  }

  size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  config() {
    const { kind, small } = this.options;
    const grid = { stroke: cssValue("--grid"), width: 1 };
    const axis = { stroke: cssValue("--muted"), grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const bars = kind === "bar" ? { paths: uPlot.paths.bars({ size: [0.8, 60], align: 1 }) } : {};
    const filled = kind === "area" || kind === "stacked" || kind === "bar" || small;
    const step = stepMs(this.state.step);
    return {
      ...this.size(),
      ms: 1,
      padding: small ? [4, 0, 0, 0] : [this.options.unit ? 24 : 12, 20, 0, 0],
      legend: { show: false },
      cursor: {
        show: !small,
        drag: { x: true, y: false },
        points: { size: 8, width: 2, stroke: (u, i) => colorOf(this.colorNumbers[i - 1]), fill: () => cssValue("--surface") },
      },
      scales: {
        x: { time: true, range: (u, low, high) => this.timeRange(low, high, step) },
        y: { range: (u, low, high) => valueRange(low, high, filled || low >= 0) },
      },
      axes: [
        { ...axis, show: !small, grid: { show: false }, ...timeAxis(() => this.zone) },
        { ...axis, show: !small, ...this.valueAxis() },
      ],
      bands: this.stacked ? this.bands() : undefined,
      series: [
        {},
        ...this.state.series.map((series, index) => {
          const color = colorOf(this.colorNumbers[index]);
          return {
            label: series.label,
            stroke: color,
            width: kind === "bar" ? 0 : 2,
            dash: this.colorNumbers[index] < COLORS ? undefined : [6, 4],
            fill: filled ? alpha(color, kind === "bar" ? 0.85 : kind === "stacked" ? 0.45 : 0.16) : undefined,
            spanGaps: false,
            points: {
              show: kind !== "bar" && !small && ((u, i, from, to) => to - from < 40),
              filter: (u, i, all) => (all || kind === "bar" ? null : lonePoints(u, i)),
              size: small ? 4 : 6,
            },
            ...bars,
          };
        }),
      ],
      hooks: {
        setCursor: [() => this.hover()],
        setScale: [(u, name) => name === "x" && this.scaled()],
      },
    };
  }

  // The value axis. uPlot takes the only distance of ticks that it is offered and leaves the ticks to us.
  valueAxis() {
    let most = 1;
    return {
      size: valueAxisWidth,
      space: 44,
      incrs: (u, axis, min, max, height, space) => {
        most = height / space;
        return [Number.MAX_VALUE];
      },
      splits: (u, axis, min, max) => valueTicks(min, max, most, this.divisor),
      values: (u, ticks) => tickLabels(ticks.map((tick) => tick * this.divisor)),
    };
  }

  // The range of the time axis: with margins around a single moment, and space for the last bar.
  timeRange(low, high, step) {
    const xs = this.data[0];
    if (xs[0] === xs[xs.length - 1]) return [xs[0] - (step || MINUTE_MS), xs[0] + (step || MINUTE_MS)];
    return [low, high + (this.options.kind === "bar" && !this.zoomed ? step : 0)];
  }

  // Each visible area is filled down to the visible one below it.
  bands() {
    const on = this.shown.flatMap((shown, index) => (shown ? [index + 1] : []));
    return on.slice(1).map((series, i) => ({ series: [series, on[i]] }));
  }

  scaled() {
    const { min, max } = this.plot.scales.x;
    const xs = this.plot.data[0];
    this.zoomed = xs.length > 1 && (min > xs[0] || max < xs[xs.length - 1]);
    this.options.onZoom?.(this.zoomed);
  }

  hover() {
    const u = this.plot;
    const index = u?.cursor.idx;
    if (index === null || index === undefined || u.cursor.left < 0) {
      this.tooltip.hidden = true;
      return;
    }
    const rows = this.rowsAt(index);
    this.tooltip.replaceChildren(
      make("strong", {}, `${moment(this.data[0][index], this.state.step, this.zone)} ${zoneBeside(this.state.step, this.zone)}`),
      ...rows.slice(0, 12).map((row) => {
        return make("span", { class: "row" }, dotOf(this.colorNumbers[row.index]), make("span", {}, row.label), make("b", {}, exact(row.y, this.options.unit)));
      }),
    );
    this.tooltip.hidden = rows.length === 0;
    const left = u.bbox.left / devicePixelRatio + u.cursor.left;
    const toTheLeft = left > this.element.clientWidth / 2;
    this.tooltip.style.left = `${left + (toTheLeft ? -14 : 14)}px`;
    this.tooltip.style.transform = toTheLeft ? "translateX(-100%)" : "none";
  }

  rowsAt(index) {
    return this.state.series
      .map((series, i) => ({ label: series.label, y: this.columns[i][index], index: i }))
      .filter((row) => this.shown[row.index] && row.y !== undefined && row.y !== null);
  }

  resetZoom() {
    this.zoomed = false;
    this.plot.setData(this.data, true);
  }

  zoom(factor) {
    const { min, max } = this.plot.scales.x;
    const middle = this.plot.cursor.idx != null ? this.data[0][this.plot.cursor.idx] : (min + max) / 2;
    const half = Math.min(Math.max((max - min) * factor, SHORTEST_MS), LONGEST_MS) / 2;
    this.plot.setScale("x", { min: middle - half, max: middle + half });
  }

  key(event) {
    if (!this.plot || !this.data[0].length) return;
    const last = this.data[0].length - 1;
    const at = this.plot.cursor.idx ?? last + 1;
    const target = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (target !== undefined) {
      this.point(Math.min(Math.max(target, 0), last));
    } else if (event.key === "+" || event.key === "=") {
      this.zoom(0.5);
    } else if (event.key === "-") {
      this.zoom(2);
    } else if (event.key === "Escape") {
      this.resetZoom();
    } else {
      return;
    }
    event.preventDefault();
  }

  point(index) {
    const x = this.data[0][index];
    this.plot.setCursor({ left: this.plot.valToPos(x, "x"), top: 10 });
    const rows = this.rowsAt(index).map((row) => `${row.label} ${exact(row.y, this.options.unit)}`);
    this.options.announce?.(`${moment(x, this.state.step, this.zone)}: ${rows.join(", ") || "no data"}`);
  }

  destroy() {
    this.resizer.disconnect();
    this.plot?.destroy();
  }
}

// Return the indices of visible points that no line reaches: alone between gaps. Those that would cover each other are
// drawn once, so that many of them take no longer than the plot has places.
function lonePoints(u, series) {
  const [xs, ys] = [u.data[0], u.data[series]];
  const { min, max } = u.scales.x;
  const lone = [];
  const places = new Set();
  let before = null; // undefined is no gap: the line goes on
  let at = -1; // the last point, if there was a gap before it
  const keep = () => {
    if (at < 0 || xs[at] < min || xs[at] > max) return;
    const place = `${Math.round(u.valToPos(xs[at], "x"))} ${Math.round(u.valToPos(ys[at], "y"))}`;
    if (!places.has(place)) lone.push(at);
    places.add(place);
  };
  for (let i = 0; i < ys.length; i++) {
    if (ys[i] === undefined) continue;
    if (ys[i] === null) keep();
    at = ys[i] !== null && before === null ? i : -1;
    before = ys[i];
  }
  keep();
  return lone.length ? lone : null;
}

function alpha(color, part) {
  const probe = /^#([0-9a-f]{6})$/i.exec(color);
  if (!probe) return color;
  const number = parseInt(probe[1], 16);
  return `rgba(${number >> 16}, ${(number >> 8) & 255}, ${number & 255}, ${part})`;
}
