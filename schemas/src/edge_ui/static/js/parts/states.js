// What a view shows instead of data: it loads, there is none, it can't be read. Each says what to do.
import { refresh } from "../live.js";
import { html } from "../lib.js";

const ADVICE = {
  forbidden: "Your role does not include this. Ask an administrator for a token with a higher role.",
  not_found: "It does not exist, it was removed, or your token is limited to other sites or queues.",
  unreachable: "The page tries again every two seconds by itself.",
  relay_unavailable: "The page tries again every two seconds by itself. On the machine of Airflow's api-server, 'airflow edge-relay doctor' checks its settings.",
  broker_unavailable: "The page tries again every two seconds by itself. The relay's log says why it can't use NATS.",
  rate_limited: "The relay limits how often it is asked. The page asks again by itself.",
  invalid_request: "A filter in the address is not valid. Remove the filters and try again.",
};

export function Failure({ error, what }) {
  return html`<div class="notice bad" role="alert">
    <h2>${what} can't be shown</h2>
    <p>${error.message}</p>
    <p class="faint">${ADVICE[error.code] || "If it stays, the relay's log has the reason."}</p>
    <p><button type="button" class="button" onClick=${() => refresh()}>Try again</button></p>
  </div>`;
}

export function Empty({ title, children }) {
  return html`<div class="notice"><h2>${title}</h2>${children}</div>`;
}

export function Loading({ rows = 6 }) {
  return html`<div class="skeleton" role="status" aria-label="Loading">
    ${Array.from({ length: rows }, (_, index) => html`<span key=${index}></span>`)}
  </div>`;
}

/** A resource's data by `children`, or what is shown instead of it. */
export function Loaded({ resource, what, rows, children }) {
  if (resource.data) return children(resource.data);
  if (resource.error) return html`<${Failure} error=${resource.error} what=${what} />`;
  return html`<${Loading} rows=${rows} />`;
}
