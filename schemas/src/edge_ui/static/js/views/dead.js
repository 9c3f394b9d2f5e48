// Jobs that were released too often and are parked: redrive or purge them.
import { may } from "../api.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Bulk } from "../parts/bulk.js";
import { Filters } from "../parts/filters.js";
import { useSelection } from "../parts/selection.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Age, Ago } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { keyOf } from "./jobs.js";
import { listPath } from "./list.js";

const FILTERS = ["text", "queue", "dag_id", "run_id"];
const SELECTABLE = ["queue", "dag_id", "run_id"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "task or job id" },
  { key: "queue", label: "Queue" },
  { key: "dag_id", label: "DAG" },
  { key: "run_id", label: "Run" },
];
const COLUMNS = [
  { key: "task", label: "Task", sort: "task", name: true, cell: (row) => html`<a href=${link("jobs", row.job)}>${row.task}</a><small class="cut" title=${row.run_id}>${[row.try_number && `try ${row.try_number}`, row.run_id].filter(Boolean).join(", ")}</small>` },
  { key: "queue", label: "Queue", sort: "queue", cell: (row) => html`<a href=${link("queues", null, { text: row.queue })}>${row.queue}</a>` },
  { key: "reason", label: "Why it is parked", cell: (row) => html`<span class="said">${row.parked}</span>` },
  { key: "releases", label: "Releases", numeric: true, cell: (row) => html`<span class="num">${row.releases}</span>` },
  { key: "waits", label: "Waits for", sort: "waits_since", numeric: true, cell: (row) => html`<${Age} at=${row.waits_since} />` },
  { key: "created", label: "Dispatched", sort: "created_at", newest: true, cell: (row) => html`<${Ago} at=${row.created_at} />` },
];

export function Dead({ params }) {
  const sort = params.get("sort") || "created_at";
  const fixed = { sort, parked: "true" };
  const resource = useResource(listPath("jobs", params, FILTERS, fixed), ["jobs"]);
  const selection = useSelection(params);
  const filtered = FILTERS.some((key) => params.get(key));
  // `parked` alone selects all dead letters; a text can't be given to an action.
  const where = new URLSearchParams(params);
  where.set("parked", "true");
  return html`<${Heading} title="Dead letters"><span class="faint">parked jobs: released too often, still queued in Airflow</span><//>
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The list of dead letters">${(page) =>
      page.items.length
        ? html`<${Bulk} kind="job" selection=${selection} page=${page} params=${where} filters=${[...SELECTABLE, "parked"]} only=${["redrive", "purge"]} canAll=${!params.get("text")} />
          <${Table} label="Dead letters" columns=${COLUMNS} page=${page} keyOf=${keyOf} sort=${sort} sorted=${(next) => setParams({ sort: next, cursor: null, page: null })} selection=${may("operator") ? selection : null} loading=${resource.loading} />
          <${Pager} list=${listPath("jobs", params, FILTERS, fixed, false)} page=${page} params=${params} what="dead letters" />`
        : html`<${Empty} title=${filtered ? "No dead letter matches" : "There are no dead letters"}><p>A job is parked when workers have released it five times before its code ran.</p><//>`}<//>`;
}
