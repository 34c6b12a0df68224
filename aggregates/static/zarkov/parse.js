// Parse JSON without rounding: whole numbers that no double can hold become BigInt.

const LONG = /[[,:]\s*-?\d{16,}\s*[,\]}]/; // the reviver is slow, so it is used only where it may be needed

// A browser that does not pass the source text of a number to the reviver rounds them, as JSON.parse does.
export function parse(text) {
  return LONG.test(text) ? JSON.parse(text, exactly) : JSON.parse(text);
}

function exactly(key, value, context) {
  const rounded = Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "");
  return rounded ? BigInt(context.source) : value;
}

// Return a value from `parse` as JSON again.
export function write(value) {
  return JSON.stringify(value, (key, item) => (typeof item === "bigint" ? JSON.rawJSON(String(item)) : item));
}
