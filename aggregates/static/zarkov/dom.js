// Create elements, choose colours of series, and make copy buttons work.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function cssValue(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const COLORS = 8;

// Assign colour numbers to names: the lowest free one to each new name, so that names keep theirs when others appear.
export class Colors {
  constructor() {
    this.byName = new Map();
  }

  of(names) {
    for (const name of this.byName.keys()) if (!names.includes(name)) this.byName.delete(name);
    const taken = new Set(this.byName.values());
    let next = 0;
    return names.map((name) => {
      if (!this.byName.has(name)) {
        while (taken.has(next)) next++;
        taken.add(next);
        this.byName.set(name, next);
      }
      return this.byName.get(name);
    });
  }
}

// The dot of a series: hollow in the second round of colours, whose lines are dashed.
export function dotOf(index) {
  const dot = make("i", { class: index < COLORS ? "dot" : "dot again" });
  dot.style.color = colorOf(index);
  return dot;
}

export function colorOf(index) {
  return cssValue(`--series-${(index % COLORS) + 1}`);
}

// Make the buttons copy the text beside them. If the browser does not allow that, the text is selected instead.
export function copyButtons() {
  for (const button of document.querySelectorAll("button.copy:not([data-ready])")) {
    button.dataset.ready = "true";
    button.addEventListener("click", () => copy(button, document.getElementById(button.dataset.target)));
  }
}

async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
}
