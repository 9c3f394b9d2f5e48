// Begins: who is signed in decides between the sign-in view and the others.
import { loadSession, session } from "./api.js";
import { html, render, useEffect, useState, useStore } from "./lib.js";
import { startLive } from "./live.js";
import { focusFilter } from "./parts/filters.js";
import { Shell } from "./parts/shell.js";
import { Empty } from "./parts/states.js";
import { link, route } from "./route.js";
import { Audit } from "./views/audit.js";
import { Dead } from "./views/dead.js";
import { JobView } from "./views/job.js";
import { Jobs } from "./views/jobs.js";
import { Overview } from "./views/overview.js";
import { Queues } from "./views/queues.js";
import { SignIn } from "./views/signin.js";
import { Sites } from "./views/sites.js";
import { Tokens } from "./views/tokens.js";
import { WorkerView } from "./views/worker.js";
import { Workers } from "./views/workers.js";

const LISTS = { overview: Overview, workers: Workers, sites: Sites, queues: Queues, jobs: Jobs, dead: Dead, tokens: Tokens, audit: Audit };
const ITEMS = { workers: WorkerView, jobs: JobView };
const RETRY_MS = 2000;

function App() {
  const who = useStore(session);
  const { view, name, params } = useStore(route);
  if (who === undefined) return html`<${Starting} />`;
  if (who === null) return html`<${SignIn} />`;
  const list = view === "jobs" && params.get("parked") === "true" ? "dead" : view;
  const View = name === null ? LISTS[list] : ITEMS[view];
  return html`<${Shell} view=${view}>
    ${View
      ? html`<${View} key=${`${list}/${name}`} name=${name} params=${params} />`
      : html`<${Empty} title="There is no such view"><p><a href=${link("overview")}>Go to the overview</a></p><//>`}
  <//>`;
}

/** Until the relay says who is signed in. It may be away when the page is opened. */
function Starting() {
  const [error, setError] = useState(null);
  useEffect(() => {
    let timer = null;
    const attempt = () =>
      loadSession().catch((failure) => {
        setError(failure);
        timer = setTimeout(attempt, RETRY_MS);
      });
    attempt();
    return () => clearTimeout(timer);
  }, []);
  if (!error) return html`<p class="boot" role="status">Loading Edge Relay …</p>`;
  return html`<div class="boot" role="alert"><h1>${error.code === "relay_unavailable" ? "The relay can't be used from Airflow" : "The relay does not answer"}</h1><p>${error.message}. The page tries again every two seconds.</p></div>`;
}

document.addEventListener("keydown", focusFilter);
route.subscribe(({ view, name }, before) => {
  if (view !== before.view || name !== before.name) document.getElementById("main")?.scrollTo(0, 0);
});
startLive();
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
