// All queues: what waits, since when, and who could take it.
import { may } from "../api.js";
import { count, seconds } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Bulk } from "../parts/bulk.js";
import { Filters } from "../parts/filters.js";
import { Spark } from "../parts/marks.js";
import { Order } from "../parts/order.js";
import { useSelection } from "../parts/selection.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Age } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { listPath } from "./list.js";

const FILTERS = ["text", "team"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "part of the name" },
  { key: "team", label: "Team" },
];

function jobs(row, key, params) {
  const value = row[key];
  return value ? html`<a class="num" href=${link("jobs", null, { queue: row.queue, ...params })}>${count(value)}</a>` : html`<span class="num faint">0</span>`;
}

const plainNumber = (key) => (row) => html`<span class=${`num ${row[key] ? "" : "faint"}`}>${count(row[key])}</span>`;

function Settings({ row: { settings } }) {
  const parts = [
    settings.tolerance_s != null && `tolerance ${seconds(settings.tolerance_s)}`,
    settings.timeout_s != null && `time-out ${seconds(settings.timeout_s)}`,
    settings.max_running != null && `at most ${count(settings.max_running)} running`,
    settings.kinds != null && `only ${settings.kinds.join(", ") || "nothing"}`,
  ].filter(Boolean);
  return html`${settings.order && html`<small><${Order} order=${settings.order} /></small>`}${parts.length > 0 && html`<small>${parts.join(", ")}</small>`}`;
}

function Workers({ row }) {
  const text = `${row.workers_able}/${row.workers}`;
  const title = `${row.workers} workers serve it, ${row.workers_able} of them could take a job now, with ${row.free_slots} free slots`;
  const tone = row.workers === 0 && row.waiting + row.held_back > 0 ? "bad" : "";
  return html`<a class=${`num ${tone}`} title=${title} href=${link("workers", null, { queue: row.queue })}>${text}</a><small>${count(row.free_slots)} free</small>`;
}

const COLUMNS = [
  {
    key: "queue",
    label: "Queue",
    sort: "queue",
    name: true,
    cell: (row) => html`<a href=${link("jobs", null, { queue: row.queue })}>${row.queue}</a>${row.team && html`<small>team ${row.team}</small>`}${row.exists === false && html`<small class="warn">no such queue yet: no worker, no job</small>`}<${Settings} row=${row} />`,
  },
  { key: "waiting", label: "Waiting", sort: "waiting", numeric: true, cell: (row) => jobs(row, "waiting", { state: "waiting" }) },
  { key: "held", label: "Held back", sort: "held_back", numeric: true, cell: plainNumber("held_back") },
  { key: "granted", label: "Granted", sort: "granted", numeric: true, cell: plainNumber("granted") },
  { key: "running", label: "Running", sort: "running", numeric: true, cell: (row) => jobs(row, "running", { state: "running" }) },
  { key: "oldest", label: "Oldest waits", sort: "oldest_at", numeric: true, cell: (row) => html`<${Age} at=${row.oldest_at} />` },
  { key: "rates", label: "In and out", cell: (row) => html`<${Spark} values=${row.in_per_minute} label="came in" /><${Spark} values=${row.out_per_minute} label="ended" tone="out" />` },
  { key: "again", label: "Delivered again", numeric: true, cell: plainNumber("redeliveries") },
  { key: "dead", label: "Dead", sort: "dead", numeric: true, cell: (row) => (row.dead ? html`<a class="num bad" href=${link("dead", null, { queue: row.queue })}>${count(row.dead)}</a>` : html`<span class="num faint">0</span>`) },
  { key: "workers", label: "Able workers", sort: "workers", numeric: true, cell: (row) => html`<${Workers} row=${row} />` },
];
const keyOf = (row) => (row.team ? `${row.team}/${row.queue}` : row.queue);

export function Queues({ params }) {
  const sort = params.get("sort") || "queue";
  const resource = useResource(listPath("queues", params, FILTERS, { sort }), ["queues", "jobs", "workers"]);
  const selection = useSelection(params);
  return html`<${Heading} title="Queues" />
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The list of queues">${(page) =>
      page.items.length
        ? html`<${Bulk} kind="queue" selection=${selection} page=${page} params=${params} filters=${FILTERS} canAll=${false} names=${(keys) => idsOf(page, keys)} />
          ${page.items[0].of_own_sites && html`<p class="faint">Running jobs, workers and slots are those of your sites. Waiting jobs may start at any site.</p>`}
          <${Table} label="Queues" columns=${COLUMNS} page=${page} keyOf=${keyOf} sort=${sort} sorted=${(next) => setParams({ sort: next, cursor: null, page: null })} selection=${may("operator") ? selection : null} loading=${resource.loading} />
          <${Pager} list=${listPath("queues", params, FILTERS, { sort }, false)} page=${page} params=${params} what="queues" />`
        : html`<${Empty} title=${FILTERS.some((key) => params.get(key)) ? "No queue matches" : "There are no queues yet"}><p>A queue appears with its first job, or with the first worker that serves it.</p><//>`}<//>`;
}

/** What the API names a queue by. */
function idsOf(page, keys) {
  return page.items.filter((row) => keys.includes(keyOf(row))).map(({ queue, team }) => (team ? { queue, team } : { queue }));
}
