// All jobs that have not ended, or those that have.
import { may } from "../api.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Bulk } from "../parts/bulk.js";
import { Filters } from "../parts/filters.js";
import { State } from "../parts/marks.js";
import { useSelection } from "../parts/selection.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Age, Ago } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { listPath } from "./list.js";

const FILTERS = ["text", "state", "queue", "worker", "site", "dag_id", "run_id", "ended"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "task or job id" },
  { key: "ended", label: "Show", none: "waiting and running", options: [["true", "ended"]] },
  { key: "state", label: "State", options: ["waiting", "running", "stopping"].map((state) => [state, state]) },
  { key: "queue", label: "Queue" },
  { key: "worker", label: "Worker" },
  { key: "site", label: "Site" },
  { key: "dag_id", label: "DAG" },
  { key: "run_id", label: "Run" },
];
/** What the API can select jobs by for an action; with another filter set, only named jobs are acted on. */
const SELECTABLE = ["queue", "worker", "dag_id", "run_id"];

export function stateOf(row) {
  if (row.parked) return "parked";
  return row.verdict || row.state;
}

const TASK = {
  key: "task",
  label: "Task",
  sort: "task",
  name: true,
  cell: (row) => html`<a href=${link("jobs", row.job)}>${row.task}</a><small class="cut" title=${row.run_id}>${[row.try_number && `try ${row.try_number}`, row.run_id, row.kind, row.producer && `by ${row.producer}`, ...Object.entries(row.labels || {}).map(([key, value]) => `${key}=${value}`)].filter(Boolean).join(", ")}</small>`,
};
const STATE = { key: "state", label: "State", sort: "state", cell: (row) => html`<${State} value=${stateOf(row)} title=${row.parked || row.reason || ""} />` };
const QUEUE = { key: "queue", label: "Queue", sort: "queue", cell: (row) => html`<a href=${link("queues", null, { text: row.queue })}>${row.queue}</a>` };
const WORKER = { key: "worker", label: "Worker", sort: "worker", tight: true, cell: (row) => (row.worker ? html`<a href=${link("workers", row.worker)}>${row.worker}</a>${row.site && html`<small>${row.site}</small>`}` : html`<span class="faint">–</span>`) };
const OPEN = [
  TASK,
  STATE,
  QUEUE,
  WORKER,
  { key: "waits", label: "Waits for", sort: "waits_since", numeric: true, cell: (row) => html`<${Age} at=${row.waits_since} />` },
  { key: "runs", label: "Runs for", sort: "started_at", numeric: true, cell: (row) => html`<${Age} at=${row.started_at} />` },
  { key: "created", label: "Dispatched", sort: "created_at", newest: true, cell: (row) => html`<${Ago} at=${row.created_at} />` },
  { key: "notes", label: "Notes", cell: (row) => html`<div class="notes">${noteOf(row)}</div>` },
];
const ENDED = [
  { ...TASK, sort: null },
  { ...STATE, sort: null },
  { ...QUEUE, sort: null },
  { ...WORKER, sort: null },
  { key: "ended", label: "Ended", sort: "ended_at", newest: true, cell: (row) => html`<${Ago} at=${row.ended_at} />` },
  { key: "reason", label: "Reason", cell: (row) => html`<span class="said">${row.reason || "–"}</span>` },
];

function noteOf(row) {
  const notes = [row.stop_reason && `stopping: ${row.stop_reason}`, row.parked, !row.parked && row.releases > 0 && `released ${row.releases} times`].filter(Boolean);
  return notes.length ? notes.map((note) => html`<span key=${note}>${note}</span>`) : html`<span class="faint">–</span>`;
}

export const keyOf = (row) => row.job;

export function Jobs({ params }) {
  const ended = params.get("ended") === "true";
  const sort = ended ? "-ended_at" : params.get("sort") || "created_at";
  const resource = useResource(listPath("jobs", params, FILTERS, { sort }), ["jobs"]);
  const selection = useSelection(params);
  const others = FILTERS.some((key) => params.get(key) && !SELECTABLE.includes(key));
  const canAll = !others && SELECTABLE.some((key) => params.get(key));
  const columns = ended ? ENDED : OPEN;
  return html`<${Heading} title="Jobs" />
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The list of jobs">${(page) =>
      page.items.length
        ? html`${!ended && html`<${Bulk} kind="job" selection=${selection} page=${page} params=${params} filters=${SELECTABLE} only=${["cancel"]} canAll=${canAll} />`}
          <${Table} label="Jobs" columns=${columns} page=${page} keyOf=${keyOf} sort=${sort} sorted=${(next) => setParams({ sort: next, cursor: null, page: null })} selection=${may("operator") && !ended ? selection : null} loading=${resource.loading} />
          <${Pager} list=${listPath("jobs", params, FILTERS, { sort }, false)} page=${page} params=${params} what="jobs" />`
        : html`<${NoJobs} params=${params} ended=${ended} />`}<//>`;
}

function NoJobs({ params, ended }) {
  const filtered = FILTERS.some((key) => key !== "ended" && params.get(key));
  if (filtered) return html`<${Empty} title="No job matches"><p>Jobs that have ended are shown with <a href=${link("jobs", null, { ...Object.fromEntries(params), ended: "true", sort: null })}>Show: ended</a>.</p><//>`;
  if (ended) return html`<${Empty} title="No job has ended in the last seven days"><p>Records of ended jobs are kept for seven days.</p><//>`;
  return html`<${Empty} title="No job waits or runs"><p>A job appears when Airflow queues a task in one of the queues of Edge Relay. <a href=${link("jobs", null, { ended: "true" })}>Show jobs that have ended</a>.</p><//>`;
}
