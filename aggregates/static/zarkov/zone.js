// Time zones as this browser reads them. Servers know zones that browsers do not, such as localtime and +00:53:28.

const readable = new Map(); // by zone

// A DateTimeFormat in a zone; undefined if the browser does not know it.
function formatter(form, zone, locale) {
  try {
    return new Intl.DateTimeFormat(locale, { ...form, timeZone: zone });
  } catch {
    return undefined;
  }
}

// The names to try for a zone, the nearest first. Older browsers know no offsets but those of Etc/, whose sign is that of POSIX.
function* candidates(zone) {
  yield zone;
  const name = String(zone ?? "").replace(/^(posix|right)\//, "");
  if (name) yield name;
  const [, sign, hours, minutes, seconds] = /^([+-])(\d\d):(\d\d)(?::(\d\d))?/.exec(name) ?? [];
  if (!sign) return;
  const total = Number(hours) * 60 + Number(minutes) + (Number(seconds ?? 0) >= 30 ? 1 : 0);
  const two = (number) => String(number).padStart(2, "0");
  yield `${sign}${two(Math.floor(total / 60))}:${two(total % 60)}`;
  if (total % 60 === 0) yield `Etc/GMT${sign === "+" ? "-" : "+"}${total / 60}`;
}

function find(zone) {
  if (zone) for (const name of candidates(zone)) if (formatter({}, name)) return name;
  return "UTC";
}

// The zone by which the browser shows times of a zone: itself, the nearest whole minute of an offset, else UTC.
export function readableZone(zone) {
  if (!readable.has(zone)) readable.set(zone, find(zone));
  return readable.get(zone);
}

// Format moments in any zone, as the browser's language does it or `locale`. Never throws.
export function dateTimeFormat(form, zone, locale = undefined) {
  return formatter(form, readableZone(zone), locale) ?? new Intl.DateTimeFormat(locale, form);
}

// A sentence for people if times are not shown in the zone itself, else "".
export function zoneNote(zone) {
  const shown = readableZone(zone);
  return !zone || shown === zone ? "" : `Times are shown in ${shown}: browsers do not know the time zone ${zone}.`;
}
