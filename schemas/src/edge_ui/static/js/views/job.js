// One job: why it waits, its timeline, its record, actions.
import { session } from "../api.js";
import { local, seconds, shortDigest } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Actions } from "../parts/action.js";
import { State } from "../parts/marks.js";
import { Facts, Panel } from "../parts/panel.js";
import { Heading } from "../parts/shell.js";
import { Loaded } from "../parts/states.js";
import { Ago, Age } from "../parts/time.js";
import { link } from "../route.js";
import { taskUrl } from "./airflow.js";
import { stateOf } from "./jobs.js";

export function JobView({ name }) {
  const path = `jobs/${encodeURIComponent(name)}`;
  const resource = useResource(path, ["jobs", "audit"]);
  const isEnded = resource.data?.row.state === "ended";
  const why = useResource(`${path}/why`, ["jobs", "workers", "queues", "sites"]);
  const title = resource.data?.row.task || name;
  return html`<${Heading} title=${title} back=${["Jobs", link("jobs")]}>
      ${resource.data && html`<${State} value=${stateOf(resource.data.row)} />`}<//>
    <${Loaded} resource=${resource} what="The job">${(detail) => html`<${Detail} detail=${detail} why=${why} isEnded=${isEnded} />`}<//>`;
}

function Detail({ detail, why, isEnded }) {
  const { row, timeline } = detail;
  const url = detail.airflow_url || taskUrl(session.value.airflow_url, row);
  return html`<div class="line">
      ${!isEnded && html`<${Actions} kind="job" choice=${{ names: [row.job] }} label=${row.task} row=${row} />`}
      ${url && /^https?:\/\//.test(url) && html`<a class="button" href=${url} target="_blank" rel="noopener noreferrer">Open in Airflow<span class="hidden">, in a new tab</span></a>`}
    </div>
    <${Panel} title=${isEnded ? "What became of it" : row.state === "waiting" ? "Why it waits" : "What it does"} tone="lead"><${Why} why=${why} /><//>
    <div class="panels">
      <${Panel} title="Job"><${Facts} rows=${facts(row, detail.record, detail.bundle)} /><//>
      <${Panel} title="Timeline"><ol class="timeline">${timeline.map((moment) => html`<li key=${`${moment.at} ${moment.what}`}>
        <span class="when"><${Ago} at=${moment.at} /></span><span class="what">${moment.what}${moment.worker && html` <a href=${link("workers", moment.worker)}>${moment.worker}</a>`}</span></li>`)}</ol><//>
    </div>`;
}

function Why({ why }) {
  if (why.error && !why.data) return html`<p class="faint">The causes can't be read: ${why.error.message}</p>`;
  if (!why.data) return html`<p class="faint">Looking for the causes …</p>`;
  return html`<ol class="causes">${why.data.causes.map((cause, index) => html`<li key=${`${index} ${cause.code}`}>
    <span>${cause.text}</span><small><code>${cause.code}</code>${cause.since && html`, since <${Ago} at=${cause.since} />`}</small></li>`)}</ol>`;
}

function facts(row, record, bundle) {
  return [
    ["Queue", html`<a href=${link("queues", null, { text: row.queue })}>${row.queue}</a>${row.team && ` of team ${row.team}`}`],
    row.dag_id && ["DAG", row.dag_id],
    row.run_id && ["Run", row.run_id],
    row.task_id && ["Task", `${row.task_id}${row.map_index >= 0 ? `, map index ${row.map_index}` : ""}`],
    row.try_number && ["Try", String(row.try_number)],
    row.kind && ["Kind", row.kind],
    row.producer && ["Submitted by", row.producer],
    row.producer && ["Attempt", `${row.attempt} of ${row.max_attempts}`],
    row.priority != null && row.priority !== 0 && ["Priority", String(row.priority)],
    row.group && ["Group", row.group],
    Object.keys(row.labels || {}).length > 0 && ["Labels", Object.entries(row.labels).map(([key, value]) => `${key}=${value}`).join(", ")],
    row.not_before && row.state === "waiting" && ["Delayed until", local(new Date(row.not_before))],
    record.terms?.expires_at && row.state === "waiting" && ["Expires", local(new Date(record.terms.expires_at))],
    bundle && ["DAG code", html`<span title=${bundle.digest}>version <code>${shortDigest(bundle.digest)}</code> of ${bundle.name}${bundle.requirements && `, with the packages of ${bundle.requirements}`}</span>`],
    ["Worker", row.worker ? html`<a href=${link("workers", row.worker)}>${row.worker}</a>${row.site && ` at ${row.site}`}` : "–"],
    [row.producer ? "Submitted" : "Dispatched", html`<${Ago} at=${row.created_at} />`],
    row.waits_since && ["Waits for", html`<${Age} at=${row.waits_since} />`],
    row.started_at && ["Started", html`<${Ago} at=${row.started_at} />`],
    row.ended_at && ["Ended", html`<${Ago} at=${row.ended_at} />`],
    row.verdict && ["Outcome", `${row.verdict}${row.reason ? `: ${row.reason}` : ""}`],
    row.stop_reason && ["Stopping", row.stop_reason],
    row.parked && ["Parked", row.parked],
    row.releases > 0 && ["Released", `${row.releases} times`],
    record.offline && ["Offline tolerance", `${seconds(record.offline.tolerance_s)}, then ${record.offline.on_silence}`],
    ["Job id", html`<code>${row.job}</code>`],
  ];
}
