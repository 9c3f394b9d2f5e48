// All workers: filter, sort, select, act.
import { may } from "../api.js";
import { bytes, count, percent } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Bulk } from "../parts/bulk.js";
import { Filters } from "../parts/filters.js";
import { Meter, Names, State } from "../parts/marks.js";
import { Applied, Order } from "../parts/order.js";
import { useSelection } from "../parts/selection.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { listPath } from "./list.js";

const STATES = ["online", "unhealthy", "paused", "draining", "offline", "conflict", "never seen", "revoked"];
const FILTERS = ["text", "site", "queue", "state", "label"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "name, site, host or label" },
  { key: "state", label: "State", options: STATES.map((state) => [state, state]) },
  { key: "site", label: "Site" },
  { key: "queue", label: "Queue" },
  { key: "label", label: "Label", hint: "key=value" },
];

function Notes({ row }) {
  const first = row.problems[0] || row.no_jobs_reason;
  return html`<div class="notes">
    ${row.order && html`<${Order} order=${row.order} ofSite=${row.order_of_site} />`}
    ${first && html`<span class="warn" title=${row.problems.join("\n")}>${first}${row.problems.length > 1 && ` (+${row.problems.length - 1})`}</span>`}
    ${row.conflict.length > 0 && html`<span class="bad">two agents: ${row.conflict.join(", ")}</span>`}
    ${!row.order && !first && !row.conflict.length && html`<span class="faint">–</span>`}
  </div>`;
}

/** How many of its slots are taken, and by which job; the names of others are in the title. One line, as in other cells. */
function Slots({ row }) {
  const all = link("jobs", null, { worker: row.worker });
  const [first, ...others] = row.jobs;
  const more = row.running + row.granted - 1;
  return html`<a class="quiet" href=${all} aria-label=${`Jobs of ${row.worker}`}><${Meter} used=${row.running} of=${row.slots} label="slots used" /></a>
    ${first && html`<small class="job"><a class="cut" href=${link("jobs", first.job)} title=${`${nameOf(first)}, ${first.phase}`}>${nameOf(first)}</a>
      ${more > 0 && html`<a href=${all} title=${[...others.map(nameOf), more > others.length && "…"].filter(Boolean).join("\n")}>+${count(more)}<span class="hidden"> more</span></a>`}</small>`}`;
}

const nameOf = (job) => job.task ?? job.job;

const PATHS = { direct: "direct", http: "HTTP proxy", https: "HTTPS proxy" };

function Agent({ row: { versions, incarnation, health } }) {
  if (!versions) return html`<span class="faint">–</span>`;
  return html`<span title=${`agent ${versions.agent}, incarnation ${incarnation ?? "unknown"}, Python ${versions.python}, ${versions.platform}`}>${versions.agent} / ${versions.airflow ?? "none"} <span class="faint">#${incarnation ?? "?"}</span></span>
    ${health && html`<small class="num">CPU ${percent(health.cpu_busy_ratio)}, ${bytes(health.disk_free_bytes)} free</small>`}`;
}

const COLUMNS = [
  { key: "worker", label: "Worker", sort: "worker", name: true, cell: (row) => html`<a href=${link("workers", row.worker)}>${row.worker}</a>${row.hostname && html`<small class="cut" title=${row.hostname}>${row.hostname}</small>`}` },
  { key: "state", label: "State", sort: "state", cell: (row) => html`<${State} value=${row.state} /><small><${Applied} row=${row} /></small>` },
  { key: "notes", label: "Notes", cell: (row) => html`<${Notes} row=${row} />` },
  { key: "site", label: "Site", sort: "site", tight: true, cell: (row) => html`<a href=${link("workers", null, { site: row.site })}>${row.site}</a>${row.team && html`<small>team ${row.team}</small>`}` },
  { key: "slots", label: "Slots and jobs", sort: "running", cell: (row) => html`<${Slots} row=${row} />` },
  { key: "queues", label: "Queues", cell: (row) => html`<${Names} names=${row.queues} most=${1} view=${queueLink} />` },
  { key: "seen", label: "Last contact", sort: "last_poll_at", newest: true, tight: true, cell: (row) => html`<${Ago} at=${row.last_poll_at} none="never" /><small>${PATHS[row.proxy] ?? ""}</small>` },
  { key: "agent", label: "Agent / Airflow", tight: true, cell: (row) => html`<${Agent} row=${row} />` },
];

function queueLink(queue) {
  return link("queues", null, { text: queue });
}

const keyOf = (row) => row.worker;

export function Workers({ params }) {
  const sort = params.get("sort") || "worker";
  const path = listPath("workers", params, FILTERS, { sort });
  const resource = useResource(path, ["workers"]);
  const selection = useSelection(params);
  return html`<${Heading} title="Workers" />
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The list of workers">${(page) =>
      page.items.length
        ? html`<${Bulk} kind="worker" selection=${selection} page=${page} params=${params} filters=${FILTERS} />
          <${Table} label="Workers" columns=${COLUMNS} page=${page} keyOf=${keyOf} sort=${sort} sorted=${(next) => setParams({ sort: next, cursor: null, page: null })} selection=${may("operator") ? selection : null} loading=${resource.loading} />
          <${Pager} list=${listPath("workers", params, FILTERS, { sort }, false)} page=${page} params=${params} what="workers" />`
        : html`<${NoWorkers} params=${params} />`}<//>`;
}

function NoWorkers({ params }) {
  if (FILTERS.some((key) => params.get(key))) return html`<${Empty} title="No worker matches"><p>Change the filters, or clear them to see all workers.</p><//>`;
  return html`<${Empty} title="No worker has enrolled yet"><p>The <a href=${link("overview")}>overview</a> shows the next step: a command that enrols a worker.</p><//>`;
}
