// The filters of a list. They are in the address; "/" focuses the first one.
import { html, useEffect, useRef, useState } from "../lib.js";
import { setParams } from "../route.js";

const PAUSE_MS = 250;
const RESET = { cursor: null, page: null, sel: null };

/** `fields`: {key, label, options} for a choice, {key, label} for a text; the first text field is the main one. */
export function Filters({ fields, params, children }) {
  const set = fields.filter(({ key }) => params.get(key));
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    ${fields.map((field) =>
      field.options
        ? html`<${Choice} key=${field.key} field=${field} value=${params.get(field.key) || ""} />`
        : html`<${Text} key=${field.key} field=${field} value=${params.get(field.key) || ""} />`,
    )}
    ${set.length > 0 && html`<button type="button" class="button plain" onClick=${() => setParams({ ...RESET, ...Object.fromEntries(set.map(({ key }) => [key, null])) })}>Clear filters</button>`}
    ${children}
  </form>`;
}

function Choice({ field, value }) {
  const options = value && !field.options.some(([key]) => key === value) ? [...field.options, [value, value]] : field.options;
  return html`<label class="field"><span>${field.label}</span>
    <select value=${value} onChange=${(event) => setParams({ ...RESET, [field.key]: event.target.value || null })}>
      <option value="" selected=${value === ""}>${field.none || "any"}</option>
      ${options.map(([key, label]) => html`<option key=${key} value=${key} selected=${key === value}>${label}</option>`)}
    </select>
  </label>`;
}

function Text({ field, value }) {
  const [typed, setTyped] = useState(value);
  const timer = useRef(null);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    const next = event.target.value;
    setTyped(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setParams({ ...RESET, [field.key]: next.trim() || null }), PAUSE_MS);
  };
  return html`<label class=${`field ${field.main ? "main" : ""}`}><span>${field.label}${field.main && html` <kbd>/</kbd>`}</span>
    <input type="search" value=${typed} placeholder=${field.hint || ""} data-filter=${field.main} onInput=${type} autocomplete="off" spellcheck=${false} />
  </label>`;
}

/** "/" focuses the main filter of the view, unless the person is typing. */
export function focusFilter(event) {
  const typing = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector("dialog[open]")) return;
  const filter = document.querySelector("input[data-filter]");
  if (!filter) return;
  event.preventDefault();
  filter.focus();
  filter.select();
}
