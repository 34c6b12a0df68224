// The time axis of a plot: ticks at round times of the chart's zone, and their labels.
//
// uPlot computes ticks with dates in the zone of the browser, where an hour of the chart may not exist, and at most 100
// years apart. Here Intl reads the clock of the chart's zone, so neither the zone of the browser nor the length of the
// range matters. A reading is what that clock shows, written as the milliseconds at which UTC shows the same.

import { dateTimeFormat } from "./zone.js";

const [SECOND, MINUTE, HOUR, DAY] = [1e3, 6e4, 36e5, 864e5];
const END = 864e13 - DAY; // the last instant with dates in all zones (ECMA-262, section 21.4.1.1); the first is minus that
const SCAN = 6 * HOUR; // no zone changes its clocks twice within that
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

// Distances of ticks, ascending: a count of units, and its usual length.
const STEPS = [
  ...steps("ms", 1, [1, 2, 5, 10, 20, 50, 100, 200, 500]),
  ...steps("second", SECOND, [1, 2, 5, 10, 15, 30]),
  ...steps("minute", MINUTE, [1, 2, 5, 10, 15, 30]),
  ...steps("hour", HOUR, [1, 2, 3, 4, 6, 8, 12]),
  ...steps("day", DAY, [1, 2, 5, 10, 15]),
  ...steps("month", 30.4 * DAY, [1, 2, 3, 6]),
  ...steps("year", 365 * DAY, [1, 10, 100, 1e3, 1e4, 1e5].flatMap((power) => [power, 2 * power, 5 * power])),
];

function steps(unit, length, counts) {
  return counts.map((count) => ({ unit, count, length: count * length }));
}

// Return uPlot's options of an axis in the zone that `zoneNow` returns. Offered one distance of ticks, uPlot takes it.
export function timeAxis(zoneNow) {
  let ticks = [];
  let least = 0;
  return {
    size: 40,
    space: 70,
    incrs: (u, axis, min, max, width, space) => {
      least = ((max - min) / width) * space;
      return [Number.MAX_VALUE];
    },
    splits: (u, axis, min, max) => {
      ticks = timeTicks(min, max, least, zoneNow());
      return ticks.map((tick) => tick.at);
    },
    values: () => ticks.map((tick) => tick.label),
  };
}

// Return [{at, label}, ...] for the ticks between the instants `min` and `max`, ascending, at the smallest distance at
// which no two are closer than `least`; all are milliseconds. A time that the clock shows twice has two ticks, as long
// as they fit; one that it skips has none, and a day whose midnight it skips begins with its first instant.
export function timeTicks(min, max, least, zone) {
  const [low, high] = [Math.max(min, -END), Math.min(max, END)];
  if (!(low < high) || !(least > 0)) return [];
  for (const step of STEPS) {
    if (step.length < least) continue;
    const found = step.length < DAY ? clockTicks(low, high, step.length, least, zone) : dateTicks(low, high, step, zone);
    if (found.every((at, i) => i === 0 || at - found[i - 1] >= least)) return labelled(found, step.unit, zone);
  }
  return [];
}

// Return the instants at which the clock shows a multiple of `length` since midnight.
function clockTicks(low, high, length, least, zone) {
  const found = [];
  const seen = new Map(); // instant by reading
  for (const [from, to, offset] of stretches(low, high, zone)) {
    for (let reading = Math.ceil((from + offset) / length) * length; reading - offset < to; reading += length) {
      if (reading - offset - (seen.get(reading) ?? -Infinity) < least) continue; // shown a moment ago
      seen.set(reading, reading - offset);
      found.push(reading - offset);
    }
  }
  return found;
}

// Return [from, to, offset] for each stretch of time in which the clock is at the same offset; `high` is inside.
function stretches(low, high, zone) {
  const found = [];
  let from = low;
  let offset = offsetAt(low, zone);
  for (let at = low; at < high; ) {
    const next = Math.min(at + SCAN, high);
    const after = offsetAt(next, zone);
    if (after !== offset) {
      const change = changeBetween(at, next, zone);
      found.push([from, change, offset]);
      [from, offset] = [change, after];
    }
    at = next;
  }
  found.push([from, Math.floor(high) + 1, offset]);
  return found;
}

// Return the first instants of days, months or years.
function dateTicks(low, high, { unit, count }, zone) {
  const found = [];
  const [first, last] = [new Date(readingAt(low, zone)), new Date(readingAt(high, zone))];
  const add = (year, month, day) => {
    const reading = readingOf(year, month, day);
    if (!(reading >= low - DAY && reading <= high + DAY)) return;
    const at = startOf(reading, zone);
    if (at >= low && at <= high && at !== found[found.length - 1]) found.push(at); // a day that was left out has none
  };
  const years = unit === "year" ? count : 1;
  for (let year = Math.floor(first.getUTCFullYear() / years) * years; year <= last.getUTCFullYear(); year += years) {
    if (unit === "year") add(year, 0, 1);
    for (let month = 0; month < 12 && unit === "month"; month += count) add(year, month, 1);
    for (let month = 0; month < 12 && unit === "day"; month++) {
      const days = (readingOf(year, month + 1, 1) - readingOf(year, month, 1)) / DAY;
      // The last days of a month are left to the first of the next.
      for (let day = 1; day === 1 || days + 1 - day >= 0.75 * count; day += count) add(year, month, day);
    }
  }
  return found;
}

// Return the first instant at which the clock shows `reading`, or the change that skips it.
function startOf(reading, zone) {
  const [before, after] = [offsetAt(reading - DAY, zone), offsetAt(reading + DAY, zone)];
  if (before === after) return reading - before;
  const change = changeBetween(reading - DAY, reading + DAY, zone);
  return reading - before < change ? reading - before : Math.max(reading - after, change);
}

// Return the instant from which the clock is not at the offset of `from` any more; at `to` it is at another.
function changeBetween(from, to, zone) {
  const offset = offsetAt(from, zone);
  let [low, high] = [Math.floor(from / SECOND), Math.ceil(to / SECOND)]; // all zones change on a second
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetAt(middle * SECOND, zone) === offset) low = middle;
    else high = middle;
  }
  return high * SECOND;
}

const clocks = new Map();

function clockOf(zone) {
  if (!clocks.has(zone)) {
    const two = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
    const form = { ...two, year: "numeric", era: "short", calendar: "gregory", numberingSystem: "latn", hourCycle: "h23" };
    clocks.set(zone, dateTimeFormat(form, zone, "en-US"));
  }
  return clocks.get(zone);
}

// Return what to add to an instant to get the reading of the clock, whole seconds in milliseconds.
function offsetAt(ms, zone) {
  const whole = Math.floor(ms / SECOND) * SECOND;
  const shown = Object.fromEntries(clockOf(zone).formatToParts(whole).map(({ type, value }) => [type, value]));
  const year = shown.era.startsWith("B") ? 1 - Number(shown.year) : Number(shown.year);
  const day = readingOf(year, Number(shown.month) - 1, Number(shown.day));
  return day + Number(shown.hour) * HOUR + Number(shown.minute) * MINUTE + Number(shown.second) * SECOND - whole;
}

function readingAt(ms, zone) {
  return ms + offsetAt(ms, zone);
}

// Return the reading of a midnight; unlike Date.UTC, also in the years 0 to 99. Not a number where there is no date.
function readingOf(year, month, day) {
  return new Date(0).setUTCFullYear(year, month, day);
}

// Return the ticks with labels of one line or two: the second is there at the first tick and where it changes.
function labelled(ticks, unit, zone) {
  let before;
  return ticks.map((at) => {
    const now = new Date(readingAt(at, zone));
    const label = labelOf(now, before, unit);
    before = now;
    return { at, label };
  });
}

function labelOf(now, before, unit) {
  const [year, month] = [now.getUTCFullYear(), MONTHS[now.getUTCMonth()]];
  const date = `${now.getUTCDate()} ${month}`;
  const [hour, minute, second] = [now.getUTCHours(), now.getUTCMinutes(), now.getUTCSeconds()].map((n) => digits(n, 2));
  const other = (length) => !before || Math.floor(now / length) !== Math.floor(before / length);
  const otherYear = before?.getUTCFullYear() !== year;
  if (unit === "year") return `${year}`;
  if (unit === "month") return otherYear ? `${month}\n${year}` : month;
  if (unit === "day") return otherYear ? `${date}\n${year}` : date;
  if (unit === "ms") return `${second}.${digits(now.getUTCMilliseconds(), 3)}${other(MINUTE) ? `\n${date} ${hour}:${minute}` : ""}`;
  const time = unit === "second" ? `${hour}:${minute}:${second}` : `${hour}:${minute}`;
  if (!other(DAY)) return time;
  return otherYear ? `${time}\n${date} ${year}` : `${time}\n${date}`;
}

function digits(number, count) {
  return String(number).padStart(count, "0");
}
