// One stream of server-sent events for a page. It is closed while the page is hidden, because browsers allow only a
// few open connections to a site, and continues where it stopped afterwards.

import { parse } from "./parse.js";

const HIDDEN_MS = 5000;

export class LiveStream {
  // handlers: {kind: (data, name) => void}; onStatus(status): "live", "stale" (the server cannot read some of the
  // data), "waiting" or "paused".
  constructor(url, handlers, onStatus = () => {}) {
    this.handlers = handlers;
    this.onStatus = onStatus;
    this.names = [""];
    this.lastId = "";
    this.stale = new Set(); // names of feeds
    this.onVisibility = () => this.visibilityChanged();
    document.addEventListener("visibilitychange", this.onVisibility);
    addEventListener("pagehide", () => this.disconnect());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
    this.url = url;
  }

  listenTo(names) {
    this.names = names;
    return this;
  }

  open(url = this.url) {
    if (url !== this.url) this.lastId = "";
    this.url = url;
    this.connect();
    return this;
  }

  close() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.disconnect();
  }

  connect() {
    this.disconnect();
    const address = new URL(this.url, location.href);
    if (this.lastId) address.searchParams.set("last_event_id", this.lastId);
    const source = new EventSource(address);
    this.stale.clear();
    source.onopen = () => this.onStatus("live");
    source.onerror = () => {
      this.onStatus("waiting");
      // The browser reconnects by itself, except after an answer that is not a stream.
      if (source.readyState === EventSource.CLOSED) this.retry = setTimeout(() => this.connect(), 3000);
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

  updateStale(kind, name) {
    if (kind === "problem") this.stale.add(name);
    else if (!this.stale.delete(name)) return;
    this.onStatus(this.stale.size ? "stale" : "live");
  }

  disconnect() {
    clearTimeout(this.retry);
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
    } else if (!this.source) {
      this.connect();
    }
  }
}

export function showStatus(element) {
  const words = { live: "Live", stale: "Not up to date: the data cannot be read", waiting: "Reconnecting …", paused: "Paused" };
  return (status) => {
    if (!element) return;
    element.dataset.status = status;
    element.textContent = words[status];
  };
}
