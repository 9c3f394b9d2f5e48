// One worker: facts, what is missing, its jobs, its history, actions.
import { session } from "../api.js";
import { bytes, percent, seconds } from "../format.js";
import { html } from "../lib.js";
import { useResource } from "../live.js";
import { Actions } from "../parts/action.js";
import { Events } from "../parts/events.js";
import { Meter, Names, State } from "../parts/marks.js";
import { Applied, Order } from "../parts/order.js";
import { Facts, Panel } from "../parts/panel.js";
import { Heading } from "../parts/shell.js";
import { Loaded } from "../parts/states.js";
import { Ago, Age } from "../parts/time.js";
import { link } from "../route.js";
import { taskUrl } from "./airflow.js";

export function WorkerView({ name }) {
  const resource = useResource(`workers/${encodeURIComponent(name)}`, ["workers", "jobs", "audit"]);
  return html`<${Heading} title=${name} back=${["Workers", link("workers")]}>
      ${resource.data && html`<${State} value=${resource.data.row.state} />`}<//>
    <${Loaded} resource=${resource} what=${`The worker ${name}`}>${(detail) => html`<${Detail} detail=${detail} />`}<//>`;
}

function Detail({ detail: { row, jobs, history, missing } }) {
  return html`<${Actions} kind="worker" choice=${{ names: [row.worker] }} label=${row.worker} row=${row} />
    ${row.order && html`<p class="message hold"><${Order} order=${row.order} ofSite=${row.order_of_site} /></p>`}
    ${missing.length > 0 && html`<${Panel} title="What keeps it from running jobs" tone="warn"><ul class="plain">${missing.map((text) => html`<li key=${text}>${text}</li>`)}</ul><//>`}
    ${row.conflict.length > 0 && html`<${Panel} title="Two agents use this credential" tone="bad"><p>The older one runs at ${row.conflict[0]}, the newer one at ${row.conflict[1] ?? "an unknown place"}. A state folder was copied. Resolve the conflict to decide which one is the worker.</p><//>`}
    <div class="panels">
      <${Panel} title="Worker"><${Facts} rows=${identity(row, missing)} /><//>
      <${Panel} title="Machine and link"><${Facts} rows=${machine(row)} /><//>
      <${Panel} title=${`Jobs (${jobs.length})`} wide><${Jobs} jobs=${jobs} /><//>
      <${Panel} title="History" wide aside=${html`<a href=${link("audit", null, { target: row.worker })}>All in the audit</a>`}>
        <${Events} events=${history} none="Nothing has happened to this worker in the time that the audit keeps." /><//>
    </div>`;
}

/** `missing`: what keeps it from running jobs; a problem that is named there is not repeated. */
function identity(row, missing) {
  const problems = row.problems.filter((problem) => !missing.some((text) => text.includes(problem)));
  return [
    ["Site", html`<a href=${link("workers", null, { site: row.site })}>${row.site}</a>`],
    row.team && ["Team", row.team],
    ["Queues", html`<${Names} names=${row.queues} most=${12} view=${(queue) => link("queues", null, { text: queue })} />`],
    ["Labels", html`<${Names} names=${Object.entries(row.labels).map(([key, value]) => (value ? `${key}=${value}` : key))} most=${12} />`],
    ["Slots", html`<${Meter} used=${row.running} of=${row.slots} label="slots used" />${row.granted ? `, ${row.granted} granted` : ""}`],
    ["Settings", html`<${Applied} row=${row} /> <span class="faint">version ${row.settings_version} wanted, ${row.applied_version ?? "none"} applied</span>`],
    ["State since", html`<${Ago} at=${row.state_since} />`],
    problems.length > 0 && ["Problems", html`<ul class="plain">${problems.map((text) => html`<li key=${text}>${text}</li>`)}</ul>`],
    ["Enrolled", html`<${Ago} at=${row.enrolled_at} />`],
  ];
}

function machine(row) {
  const health = row.health || {};
  const versions = row.versions || {};
  return [
    ["Last contact", html`<${Ago} at=${row.last_poll_at} none="never" />${row.relay && html` <span class="faint">at ${row.relay}</span>`}`],
    ["Host", row.hostname || "–"],
    ["Address", row.address || "–"],
    ["Path to the relay", { direct: "direct", http: "through an HTTP proxy", https: "through an HTTPS proxy" }[row.proxy] || "–"],
    ["Incarnation", html`<span class="num">${row.incarnation ?? "–"}</span>`],
    ["Offline tolerance", row.tolerance_s == null ? "–" : seconds(row.tolerance_s)],
    ["Versions", versions.agent ? `agent ${versions.agent}, Python ${versions.python}, Airflow ${versions.airflow ?? "none"}` : "–"],
    ["Platform", versions.platform || "–"],
    ["CPU", `${percent(health.cpu_busy_ratio)} busy, load ${health.load_1m ?? "–"}`],
    ["Memory", `${bytes(health.memory_used_bytes)} of ${bytes(health.memory_total_bytes)}`],
    ["Disk free", `${bytes(health.disk_free_bytes)} of ${bytes(health.disk_total_bytes)}`],
    ["Clock", health.clock_skew_s == null ? "–" : `${health.clock_skew_s.toFixed(1)} s ahead of the relay`],
    ["Link", `${health.link_cuts ?? "–"} cuts, ${health.held_calls ?? "–"} held calls, ${bytes(health.log_lag_bytes)} of log to send`],
  ];
}

function Jobs({ jobs }) {
  if (!jobs.length) return html`<p class="faint">No jobs at the moment.</p>`;
  return html`<div class="table-frame"><table aria-label="Jobs on this worker">
    <thead><tr><th scope="col">Task</th><th scope="col">Phase</th><th scope="col">Queue</th><th scope="col">Runs for</th><th scope="col">In Airflow</th></tr></thead>
    <tbody>${jobs.map((job) => html`<tr key=${job.job}>
      <td data-label="Task" class="name"><a href=${link("jobs", job.job)}>${job.task || job.job}</a>${job.run_id && html`<small>${job.run_id}${job.try_number ? `, try ${job.try_number}` : ""}</small>`}</td>
      <td data-label="Phase"><${State} value=${job.phase} /></td>
      <td data-label="Queue">${job.queue ?? "–"}</td>
      <td data-label="Runs for"><${Age} at=${job.started_at} /></td>
      <td data-label="In Airflow"><${InAirflow} job=${job} /></td>
    </tr>`)}</tbody></table></div>`;
}

function InAirflow({ job }) {
  const url = taskUrl(session.value.airflow_url, job);
  return url ? html`<a href=${url} target="_blank" rel="noopener noreferrer">Task<span class="hidden"> in Airflow, in a new tab</span></a>` : html`<span class="faint">–</span>`;
}
