// Who changed what, when, why and from where; and what the system found by itself.
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Actor, Difference, targetLink } from "../parts/events.js";
import { Filters } from "../parts/filters.js";
import { Heading } from "../parts/shell.js";
import { Empty, Loaded } from "../parts/states.js";
import { Pager, Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { link } from "../route.js";
import { listPath } from "./list.js";

const KINDS = ["worker", "site", "queue", "job", "token"];
const FILTERS = ["text", "kind", "action", "actor", "target"];
const FIELDS = [
  { key: "text", label: "Find", main: true, hint: "action, name, site, queue or reason" },
  { key: "kind", label: "Kind", options: KINDS.map((kind) => [kind, kind]) },
  { key: "action", label: "Action", hint: "worker-paused" },
  { key: "actor", label: "By", hint: "whole name" },
  { key: "target", label: "About", hint: "whole name or id" },
];
const COLUMNS = [
  { key: "at", label: "When", cell: (row) => html`<${Ago} at=${row.at} />` },
  { key: "action", label: "Action", name: true, cell: (row) => row.action },
  { key: "target", label: "About", cell: (row) => html`<a href=${targetLink(row)}>${row.target}</a><small>${[row.target_kind, row.site, row.queue].filter(Boolean).join(", ")}</small>` },
  { key: "actor", label: "By", cell: (row) => html`<${Actor} actor=${row.actor} />` },
  { key: "reason", label: "Reason", cell: (row) => html`<span class="said">${row.reason || "–"}</span>` },
  { key: "change", label: "Change", cell: (row) => html`<${Difference} event=${row} />` },
];
const keyOf = (row) => row.sequence;

export function Audit({ params }) {
  const resource = useResource(listPath("audit", params, FILTERS), ["audit"]);
  return html`<${Heading} title="Audit" />
    <${Filters} fields=${FIELDS} params=${params} />
    <${Loaded} resource=${resource} what="The audit">${(page) =>
      page.items.length
        ? html`<${Table} label="Audit" columns=${COLUMNS} page=${page} keyOf=${keyOf} sort="" sorted=${null} loading=${resource.loading} />
          <${Pager} list=${listPath("audit", params, FILTERS, {}, false)} page=${page} params=${params} what="events" />`
        : html`<${Empty} title="No event matches"><p>Older events may have been removed: the audit keeps as much as its stream may hold. <a href=${link("audit")}>Show all events</a></p><//>`}<//>`;
}
