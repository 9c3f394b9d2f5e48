// A list: sorted by its headers, selected by checkboxes, one page at a time. Rows have keys and are rendered only if
// their data changed. On a phone each row becomes a card.
import { count } from "../format.js";
import { html, memo } from "../lib.js";
import { setParams } from "../route.js";

const cursors = new Map();
/** The cursors of the pages that were opened, by list: the way back. */

/** `columns`: {key, label, cell(row), sort, newest, numeric, name, tight}; `selection`: null, or what `useSelection` returns. */
export function Table({ label, columns, page, keyOf, sort, sorted, selection = null, loading = false }) {
  return html`<div class=${`table-frame ${loading ? "loading" : ""}`}>
    <table aria-label=${label} aria-busy=${loading}>
      <thead>
        <tr>
          ${selection && html`<th class="pick"><${PickAll} selection=${selection} keys=${page.items.map(keyOf)} /></th>`}
          ${columns.map((column) => html`<${Header} key=${column.key} column=${column} sort=${sort} sorted=${sorted} />`)}
        </tr>
      </thead>
      <tbody>
        ${page.items.map((row) => {
          const key = keyOf(row);
          const picked = selection !== null && selection.has(key);
          return html`<${Row} key=${key} id=${key} row=${row} columns=${columns} picked=${picked} toggle=${selection?.toggle} />`;
        })}
      </tbody>
    </table>
  </div>`;
}

function classOf({ numeric, name, tight }) {
  return [numeric && "numeric", name && "name", tight && "tight"].filter(Boolean).join(" ");
}

function Header({ column, sort, sorted }) {
  const classes = classOf(column);
  if (!column.sort) return html`<th scope="col" class=${classes}>${column.label}</th>`;
  const current = sort.replace(/^-/, "") === column.sort;
  const descending = sort.startsWith("-");
  const next = current ? (descending ? column.sort : `-${column.sort}`) : column.numeric || column.newest ? `-${column.sort}` : column.sort;
  return html`<th scope="col" class=${classes} aria-sort=${current ? (descending ? "descending" : "ascending") : "none"}>
    <button type="button" class="sort" onClick=${() => sorted(next)}>${column.label}
      <svg viewBox="0 0 8 10" aria-hidden="true" class=${current ? (descending ? "down" : "up") : ""}><path d="M4 0l3 4H1z" /><path d="M4 10L1 6h6z" /></svg>
    </button>
  </th>`;
}

const Row = memo(({ id, row, columns, picked, toggle }) => html`<tr class=${picked ? "picked" : ""}>
  ${toggle && html`<td class="pick"><input type="checkbox" checked=${picked} aria-label=${`Select ${id}`} onChange=${() => toggle(id)} /></td>`}
  ${columns.map(
    (column) => html`<td key=${column.key} data-label=${column.label} class=${classOf(column)}>${column.cell(row)}</td>`,
  )}
</tr>`);

function PickAll({ selection, keys }) {
  const all = keys.length > 0 && keys.every((key) => selection.has(key));
  const some = !all && keys.some((key) => selection.has(key));
  return html`<input type="checkbox" aria-label="Select all rows of this page" checked=${all} indeterminate=${some} disabled=${!keys.length} onChange=${() => selection.page(keys, !all)} />`;
}

/** Which page of how many rows, and the way to the others. The cursor is in the address. */
export function Pager({ list, page, params, what }) {
  const number = Number(params.get("page") || 1);
  const known = cursors.get(list) || [null];
  const first = (number - 1) * 100 + 1;
  const last = first + page.items.length - 1;
  const open = (to, cursor) => {
    known[to - 1] = cursor;
    cursors.set(list, known);
    setParams({ page: to > 1 ? to : null, cursor, sel: null }, { push: true });
    document.querySelector("main")?.scrollTo(0, 0);
  };
  const range = page.items.length ? `${count(first)}–${count(last)}` : "0";
  return html`<nav class="pager" aria-label="Pages">
    <span>${range}${page.total == null ? "" : ` of ${count(page.total)}`} ${what}</span>
    ${(number > 1 || page.next) && html`<span class="buttons">
      <button type="button" class="button" disabled=${number < 2} onClick=${() => open(1, null)}>First</button>
      <button type="button" class="button" disabled=${number < 2} onClick=${() => open(number - 1, known[number - 2] ?? null)}>Previous</button>
      <button type="button" class="button" disabled=${!page.next} onClick=${() => open(number + 1, page.next)}>Next</button>
    </span>`}
  </nav>`;
}
