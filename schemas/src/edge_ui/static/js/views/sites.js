// All sites. A site whose workers vanished together has lost its uplink: one line, not forty.
import { may } from "../api.js";
import { count, plural } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Bulk } from "../parts/bulk.js";
import { Filters } from "../parts/filters.js";
import { Meter, State } from "../parts/marks.js";
import { Order } from "../parts/order.js";
import { useSelection } from "../parts/selection.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { link, setParams } from "../route.js";
import { listPath } from "./list.js";

const FILTERS = ["text", "state"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "part of the name" },
  { key: "state", label: "State", options: ["online", "degraded", "offline", "empty"].map((state) => [state, state]) },
];

function number(row, key, state) {
  const value = row[key];
  return value ? html`<a class="num" href=${link("workers", null, { site: row.site, state })}>${count(value)}</a>` : html`<span class="num faint">0</span>`;
}

const COLUMNS = [
  { key: "site", label: "Site", sort: "site", name: true, cell: (row) => html`<a href=${link("workers", null, { site: row.site })}>${row.site}</a>` },
  { key: "state", label: "State", sort: "state", cell: (row) => html`<${State} value=${row.state} />` },
  { key: "since", label: "Since", sort: "since", newest: true, cell: (row) => html`<${Ago} at=${row.since} />` },
  { key: "workers", label: "Workers", sort: "workers", numeric: true, cell: (row) => number(row, "workers", null) },
  { key: "online", label: "Online", sort: "online", numeric: true, cell: (row) => number(row, "online", "online") },
  { key: "offline", label: "Offline", sort: "offline", numeric: true, cell: (row) => number(row, "offline", "offline") },
  { key: "paused", label: "Paused", numeric: true, cell: (row) => number(row, "paused", "paused") },
  { key: "slots", label: "Slots", sort: "running", numeric: true, cell: (row) => html`<${Meter} used=${row.running} of=${row.slots} label="slots used" />` },
  {
    key: "notes",
    label: "Notes",
    cell: (row) => html`<div class="notes">
      ${row.order && html`<${Order} order=${row.order} />`}
      ${row.lost_together > 0 && html`<span class="bad">uplink lost: ${plural(row.lost_together, "worker")} vanished together</span>`}
      ${!row.order && !row.lost_together && html`<span class="faint">–</span>`}</div>`,
  },
];
const keyOf = (row) => row.site;

export function Sites({ params }) {
  const sort = params.get("sort") || "site";
  const resource = useResource(listPath("sites", params, FILTERS, { sort }), ["sites", "workers"]);
  const selection = useSelection(params);
  return html`<${Heading} title="Sites" />
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The list of sites">${(page) =>
      page.items.length
        ? html`<${Bulk} kind="site" selection=${selection} page=${page} params=${params} filters=${FILTERS} canAll=${false} />
          <${Table} label="Sites" columns=${COLUMNS} page=${page} keyOf=${keyOf} sort=${sort} sorted=${(next) => setParams({ sort: next, cursor: null, page: null })} selection=${may("operator") ? selection : null} loading=${resource.loading} />
          <${Pager} list=${listPath("sites", params, FILTERS, { sort }, false)} page=${page} params=${params} what="sites" />`
        : html`<${Empty} title=${FILTERS.some((key) => params.get(key)) ? "No site matches" : "There are no sites yet"}><p>A site appears when its first worker enrols. Its name is chosen with the enrolment token.</p><//>`}<//>`;
}
