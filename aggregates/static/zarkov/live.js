// One stream of server-sent events for a page. It is closed while the page is hidden, because browsers allow only a
// few open connections to a site, and continues where it stopped afterwards.

import { parse } from "./parse.js";

const HIDDEN_MS = 5000;
const PAUSES_MS = [3000, 6000, 12000, 24000, 48000, 60000]; // between attempts while the server refuses or is away
// Refusals that do not pass by themselves: it is not asked again.
const REFUSALS = {
  400: "Not live: the server does not understand this request",
  401: "Not live: log in again",
  403: "Not live: no longer allowed",
  404: "Not live: it is no longer there",
  410: "Not live: it is no longer there",
};

export class LiveStream {
  // handlers: {kind: (data, name) => void}; onStatus(status, code, body): "live", "stale" (the server cannot read some of the
  // data), "waiting", "paused", or "ended" with the HTTP status of a refusal and what the server said, if anything.
  constructor(url, handlers, onStatus = () => {}) {
    this.handlers = handlers;
    this.onStatus = onStatus;
    this.names = [""];
    this.lastId = "";
    this.stale = new Set(); // names of feeds
    this.attempts = 0; // without success
    this.ended = false;
    this.onVisibility = () => this.visibilityChanged();
    document.addEventListener("visibilitychange", this.onVisibility);
    addEventListener("pagehide", () => this.disconnect());
    addEventListener("pageshow", (event) => event.persisted && !this.ended && this.connect());
    addEventListener("online", () => this.retry && this.connect());
    this.url = url;
  }

  listenTo(names) {
    this.names = names;
    return this;
  }

  // Begin anew: everything is sent once more, also what is here already.
  open(url = this.url) {
    this.lastId = "";
    this.url = url;
    this.attempts = 0;
    this.ended = false;
    this.connect();
    return this;
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.disconnect();
  }

  connect() {
    this.disconnect();
    const source = new EventSource(this.address());
    this.stale.clear();
    let opened = false;
    source.onopen = () => {
      opened = true;
      this.attempts = 0;
      this.onStatus("live");
    };
    source.onerror = () => {
      this.onStatus("waiting");
      // The browser reconnects by itself to a stream that broke, for ever; not after an answer that is not a stream.
      if (opened && source.readyState !== EventSource.CLOSED) opened = false;
      else this.ask();
    };
    for (const [kind, handler] of Object.entries({ problem: () => {}, ...this.handlers })) {
      for (const name of this.names) {
        source.addEventListener(name ? `${kind}:${name}` : kind, (event) => {
          if (event.lastEventId) this.lastId = event.lastEventId;
          this.updateStale(kind, name);
          handler(parse(event.data), name);
        });
      }
    }
    this.source = source;
  }

  address() {
    const address = new URL(this.url, location.href);
    if (this.lastId) address.searchParams.set("last_event_id", this.lastId);
    return address;
  }

  // Ask why there is no stream, which an EventSource does not tell: connect, ask again later, or give up.
  async ask() {
    this.disconnect();
    const asking = (this.asking = new AbortController());
    let answer;
    try {
      answer = await fetch(this.address(), { signal: asking.signal, headers: { Accept: "text/event-stream" } });
    } catch {
      // The server is away, or the browser may not read its answer.
    }
    if (asking.signal.aborted) return;
    const said = answer && answer.status in REFUSALS ? await answer.json().catch(() => undefined) : undefined;
    if (asking.signal.aborted) return;
    asking.abort();
    if (answer?.ok && answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      this.connect();
    } else if (answer && answer.status in REFUSALS) {
      this.ended = true;
      this.onStatus("ended", answer.status, said);
    } else {
      const pause = PAUSES_MS[Math.min(this.attempts++, PAUSES_MS.length - 1)];
      this.retry = setTimeout(() => this.ask(), pause);
    }
  }

  updateStale(kind, name) {
    if (kind === "problem") this.stale.add(name);
    else if (!this.stale.delete(name)) return;
    this.onStatus(this.stale.size ? "stale" : "live");
  }

  disconnect() {
    clearTimeout(this.retry);
    this.retry = undefined;
    this.asking?.abort();
    this.source?.close();
    this.source = undefined;
  }

  visibilityChanged() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.disconnect();
        this.onStatus("paused");
      }, HIDDEN_MS);
    } else if (!this.source && !this.ended) {
      this.connect();
    }
  }
}

export function showStatus(element) {
  const words = { live: "Live", stale: "Not up to date: the data cannot be read", waiting: "Reconnecting …", paused: "Paused" };
  return (status, code) => {
    if (!element) return;
    element.dataset.status = status;
    element.textContent = status === "ended" ? REFUSALS[code] : words[status];
  };
}
