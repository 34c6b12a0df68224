// The jobs page: live progress of each job, and a button to cancel it for those who may.

import { make } from "./dom.js";
import { ago, compact, duration, exact } from "./format.js";
import { LiveStream, showStatus } from "./live.js";

const root = document.querySelector("[data-stream]");
const byId = (id) => document.getElementById(id);
const opened = new Set(); // jobs whose traceback is open
const cancelling = new Set();
let state;

function show(data) {
  state = data;
  byId("no-router").hidden = Boolean(data.router);
  byId("running").textContent = exact(data.running);
  byId("rate").textContent = compact(Math.round(data.docs_per_s));
  byId("busy").textContent = exact(data.busy);
  byId("slots").textContent = `of ${exact(data.slots)}`;
  byId("workers").textContent = exact(data.workers.length);
  byId("router").textContent = data.router ? `router ${data.router}` : "no router";
  byId("failed").textContent = exact(data.ended.error ?? 0);
  failing(data.workers.filter((worker) => worker.since));
  rows();
}

function failing(workers) {
  const box = byId("failing-workers");
  box.hidden = workers.length === 0;
  box.querySelector("ul").replaceChildren(...workers.map((worker) => make("li", { "data-worker": worker.name }, ...health(worker))));
}

function health(worker) {
  const retry = Date.parse(worker.retry) - Date.now();
  const due = retry > 0 ? `next attempt in ${duration(retry)}` : "next attempt with the next step";
  const since = make("time", { datetime: worker.since, title: worker.since }, ago(worker.since));
  const count = worker.failures === 1 ? "1 failure" : `${exact(worker.failures)} failures in a row`;
  return [make("strong", {}, `${worker.name} is ${worker.state}`), `: ${count} since `, since, `, ${due}. `, worker.reason];
}

function rows() {
  const focused = document.activeElement?.dataset?.job;
  const shown = state.jobs.filter((job) => !byId("only-open").checked || job.running || job.state === "error");
  byId("jobs").replaceChildren(...shown.flatMap(row));
  byId("no-jobs").hidden = shown.length > 0;
  if (focused) document.querySelector(`button[data-job="${CSS.escape(focused)}"]`)?.focus();
}

function row(job) {
  const progress = job.progress;
  const end = job.ended ? Date.parse(job.ended) : Date.now();
  const cells = [
    make("td", {}, make("span", { class: `state ${job.running ? "running" : job.state}` }, job.state)),
    make("td", { class: "what" }, what(job)),
    make("td", {}, bar(job)),
    make("td", { class: "number" }, counted(progress.docs_in)),
    make("td", { class: "number" }, counted(progress.keys_out)),
    make("td", {}, make("time", { datetime: job.created, title: job.created }, ago(job.created))),
    make("td", { class: "number" }, duration(end - Date.parse(job.created))),
  ];
  if (byId("jobs").dataset.operate !== undefined) cells.push(make("td", {}, job.running ? cancelButton(job) : ""));
  const made = [make("tr", { "data-job-id": job.job_id }, ...cells)];
  if (job.error) made.push(failure(job, cells.length));
  return made;
}

function what(job) {
  const names = job.outputs.map((name) => name.replace(/^zagg\./, "").replace(/^zgen\.(.*)\.\d+$/, "$1")).join(", ");
  const functions = job.functions.map((name) => name.split(":").pop()).join(", ");
  return make("span", { title: `${job.job_id}\n${job.functions.join("\n")}` }, names || functions || job.job_id);
}

function bar(job) {
  const { splits, splits_done: done = 0 } = job.progress;
  if (!splits) return "–";
  if (!job.running && done === splits) return make("span", { class: "progress" }, `${exact(done)} of ${exact(splits)}`);
  const meter = make("progress", { max: splits, value: done, "aria-label": `${job.state}: splits done` });
  return make("span", { class: "progress" }, meter, make("span", {}, `${exact(done)} of ${exact(splits)}`));
}

function counted(value) {
  return value === undefined ? "–" : compact(value);
}

function failure(job, columns) {
  const cell = make("td", { colspan: String(columns) }, make("span", { class: "wrong-text" }, job.error));
  if (job.traceback) {
    const details = make("details", { class: "data" }, make("summary", {}, "Traceback"), make("pre", { tabindex: "0" }, job.traceback));
    details.open = opened.has(job.job_id);
    details.addEventListener("toggle", () => (details.open ? opened.add(job.job_id) : opened.delete(job.job_id)));
    cell.append(details);
  }
  return make("tr", { class: "failure" }, cell);
}

function cancelButton(job) {
  const busy = cancelling.has(job.job_id);
  return make(
    "button",
    { type: "button", class: "button small", "data-job": job.job_id, disabled: busy, onclick: () => cancel(job) },
    busy ? "Cancelling …" : "Cancel",
  );
}

async function cancel(job) {
  const consequence = "What it has written stays, and its aggregate may need a full run afterwards.";
  if (!confirm(`Cancel the job of ${job.outputs.join(", ") || job.job_id}? ${consequence}`)) return;
  cancelling.add(job.job_id);
  rows();
  const address = `${root.dataset.api}${encodeURIComponent(job.job_id)}/cancel/`;
  const token = document.querySelector("#csrf [name=csrfmiddlewaretoken]").value;
  try {
    const answer = await fetch(address, { method: "POST", headers: { "X-CSRFToken": token, Accept: "application/json" } });
    const body = await answer.json();
    byId("cancel-message").textContent = answer.ok ? "The job is cancelled." : body.error.message;
  } catch {
    byId("cancel-message").textContent = "The server does not answer: try again.";
  }
  cancelling.delete(job.job_id);
  rows();
}

byId("only-open").addEventListener("change", () => state && rows());
new LiveStream(root.dataset.stream, { jobs: show }, showStatus(document.querySelector(".live-status"))).open();
setInterval(() => {
  if (!state || document.hidden) return;
  if (state.running > 0) rows();
  else for (const time of document.querySelectorAll("#jobs time")) time.textContent = ago(time.dateTime);
}, 1000);
