// A titled part of a view, and a list of facts.
import { html } from "../lib.js";

export function Panel({ title, tone = "", wide = false, aside = null, children }) {
  return html`<section class=${`panel ${tone} ${wide ? "wide" : ""}`} aria-label=${title}>
    <header><h2>${title}</h2>${aside}</header>${children}</section>`;
}

/** `rows`: [label, value]; an empty row is left out. */
export function Facts({ rows }) {
  return html`<dl class="facts">${rows.filter(Boolean).map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`;
}
