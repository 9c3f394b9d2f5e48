// What operators want of a worker, a site or a queue.
import { html } from "../lib.js";
import { Ago } from "./time.js";

/** Says that the worker does not have the settings yet that operators want; nothing if it has. */
export function Applied({ row }) {
  const isApplied = row.applied_version != null && row.applied_version >= row.settings_version;
  const title = `settings version ${row.settings_version} wanted, ${row.applied_version ?? "none"} applied`;
  return isApplied ? null : html`<span class="pending" title=${title}>not yet applied</span>`;
}

/** Why it is not available, and who wants it. */
export function Order({ order, ofSite = false }) {
  if (!order) return null;
  return html`<span class="order"><strong>${order.availability}</strong>${ofSite && " (whole site)"} by ${order.by} <${Ago} at=${order.since} />${order.until && html`, ends <${Ago} at=${order.until} />`}: <span class="said">${order.reason}</span></span>`;
}
