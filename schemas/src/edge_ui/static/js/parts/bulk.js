// Acting on the selected rows of a list.
import { may } from "../api.js";
import { count } from "../format.js";
import { html } from "../lib.js";
import { Actions } from "./action.js";

/** The bar above a list: how many are selected, and what can be done with them. Its place is always there. */
export function Bulk({ kind, selection, page, params, filters, only = null, names = (keys) => keys, canAll = true }) {
  if (!may("operator")) return null;
  const what = { worker: "workers", job: "jobs", queue: "queues", site: "sites" }[kind];
  const number = selection.everything ? page.total : selection.names.size;
  if (selection.isEmpty) return html`<div class="bulk empty"><span class="faint">Select ${what} to act on them.</span></div>`;
  const where = Object.fromEntries(filters.filter((key) => params.get(key)).map((key) => [key, params.get(key)]));
  const every = Object.keys(where).length ? { where } : { all: true };
  const choice = selection.everything ? every : { names: names([...selection.names]) };
  const offered = canAll && !selection.everything && page.total > page.items.length && page.items.every((row) => selection.has(row.worker ?? row.job));
  const label = number === 1 && !selection.everything ? [...selection.names][0] : `${count(number)} ${what}`;
  return html`<div class="bulk" role="region" aria-label="Selected rows">
    <strong>${count(number)} selected</strong>
    ${offered && html`<button type="button" class="button plain" onClick=${selection.all}>Select all ${count(page.total)} that match</button>`}
    <button type="button" class="button plain" onClick=${selection.clear}>Clear</button>
    <${Actions} kind=${kind} choice=${choice} label=${label} only=${only} most=${4} />
  </div>`;
}
