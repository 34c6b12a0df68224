// Format numbers, moments and durations for people.

import { dateTimeFormat, readableZone } from "./zone.js";

const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const full = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3 });
const small = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const tiny = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3, notation: "scientific" });
const READABLE = 1e21; // from here on a number in full is a row of digits that nobody counts
const COMPACT = 1e18; // the same with the longest suffix, T

// Format a number with at most `count` significant digits. Adding 0 makes -0 a 0, here and below.
export function digits(value, count) {
  const size = Math.abs(value);
  const plain = value === 0 || (size >= 0.0001 && size < READABLE);
  const options = { maximumSignificantDigits: count, notation: plain ? "standard" : "scientific" };
  return new Intl.NumberFormat(undefined, options).format(value + 0);
}

// Small numbers are not rounded to 0. A whole number can be a BigInt, see parse.js.
function formatNumber(value) {
  if (typeof value === "bigint") return full.format(value);
  const size = Math.abs(value);
  if (size >= READABLE) return digits(value, 15);
  if (size >= 0.1 || value === 0) return full.format(value + 0);
  return (size >= 0.0001 ? small : tiny).format(value);
}

// Format a number with few digits, for places where it must be short.
export function compact(value) {
  if (value === null || value === undefined) return "–";
  const number = Number(value);
  const size = Math.abs(number);
  if (size < 10000) return formatNumber(number);
  return (size < COMPACT ? short : tiny).format(number);
}

// Format a number with all digits of its whole part.
export function exact(value, unit = "") {
  if (value === null || value === undefined) return "–";
  return unit ? `${formatNumber(value)} ${unit}` : formatNumber(value);
}

const byStep = {
  year: { year: "numeric" },
  month: { year: "numeric", month: "long" },
  week: { year: "numeric", month: "short", day: "numeric" },
  day: { weekday: "short", year: "numeric", month: "short", day: "numeric" },
  hour: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  minute: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  second: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" },
};
const formatters = new Map();

// A step is a unit or an ISO 8601 duration of one, such as PT5M, PT6H, P10D or P3M.
const units = { PY: "year", PM: "month", PD: "day", PTH: "hour", PTM: "minute", PTS: "second" };
const lengths = { year: 31536e6, month: 26784e5, week: 6048e5, day: 864e5, hour: 36e5, minute: 6e4, second: 1e3 };

function partsOf(step) {
  const [, mark, count, letter] = /^(PT?)(\d+)([YMDHS])$/.exec(step) ?? [];
  return letter ? [Number(count), units[mark + letter]] : [1, step];
}

// Length of a step in milliseconds, 0 if it is unknown.
export function stepMs(step) {
  const [count, unit] = partsOf(step);
  return count * (lengths[unit] ?? 0);
}

export function moment(ms, step, zone) {
  const name = `${step}|${zone}`;
  if (!formatters.has(name)) {
    const form = byStep[partsOf(step)[1]] ?? byStep.second;
    formatters.set(name, dateTimeFormat(form, zone));
  }
  return formatters.get(name).format(ms);
}

// Return the zone to name beside periods of this step; none for days and longer ones, which show no time.
export function zoneBeside(step, zone) {
  return stepMs(step) < lengths.day ? readableZone(zone) : "";
}

export function ago(iso, now = Date.now()) {
  const seconds = Math.round((now - Date.parse(iso)) / 1000);
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 5) return "just now";
  for (const [limit, size, name] of [
    [60, 1, "s"],
    [3600, 60, "min"],
    [86400, 3600, "h"],
    [86400 * 60, 86400, "d"],
    [86400 * 700, 86400 * 30.44, "months"],
    [Infinity, 86400 * 365.25, "years"],
  ]) {
    if (seconds < limit) return `${Math.floor(seconds / size)} ${name} ago`;
  }
  return "–";
}

export function duration(ms) {
  const seconds = Math.max(ms, 0) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
