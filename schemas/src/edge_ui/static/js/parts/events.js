// Events of the audit: when, who, what, before and after, why.
import { plain } from "../format.js";
import { html, memo } from "../lib.js";
import { link } from "../route.js";
import { Ago } from "./time.js";

/** What changed: the fields whose value is another one. */
export const Difference = memo(({ event: { before, after, facts } }) => {
  const keys = [...new Set([...Object.keys(before || {}), ...Object.keys(after || {})])];
  const changed = keys.filter((key) => JSON.stringify(before?.[key]) !== JSON.stringify(after?.[key]));
  const others = Object.entries(facts || {});
  if (!changed.length && !others.length) return html`<span class="faint">–</span>`;
  return html`<div class="difference">
    ${changed.map((key) => html`<span key=${key}><span class="faint">${key}</span> <del>${plain(before?.[key])}</del> <span class="faint" aria-label="is now">→</span> <ins>${plain(after?.[key])}</ins></span>`)}
    ${others.map(([key, value]) => html`<span key=${`fact-${key}`}><span class="faint">${key}</span> ${plain(value)}</span>`)}
  </div>`;
});

export const Actor = memo(({ actor }) => {
  const how = [actor.by, actor.address && `from ${actor.address}`].filter(Boolean).join(", ");
  return html`${actor.name}<small>${actor.kind}${how && `, ${how}`}</small>`;
});

export function targetLink(event) {
  const { target_kind: kind, target } = event;
  if (kind === "worker") return link("workers", target);
  if (kind === "job") return link("jobs", target);
  if (kind === "queue") return link("queues", null, { text: target });
  if (kind === "site") return link("workers", null, { site: target });
  return link("tokens");
}

export function Events({ events, none }) {
  if (!events.length) return html`<p class="faint">${none}</p>`;
  return html`<ol class="events">${events.map((event) => html`<li key=${event.sequence}>
    <span class="when"><${Ago} at=${event.at} /></span>
    <span class="what"><strong>${event.action}</strong> by ${event.actor.name}${event.reason && html`: <span class="said">${event.reason}</span>`}
      <${Difference} event=${event} /></span>
  </li>`)}</ol>`;
}
