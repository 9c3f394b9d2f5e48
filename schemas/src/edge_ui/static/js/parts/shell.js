// What surrounds every view: navigation, who is signed in, whether what is shown is current.
import { send, session } from "../api.js";
import { clock, local } from "../format.js";
import { html, memo, useEffect, useState, useStore } from "../lib.js";
import { health } from "../live.js";
import { link } from "../route.js";
import { ActionPlace } from "./action.js";
import { Ago } from "./time.js";

const VIEWS = [
  ["overview", "Overview"],
  ["workers", "Workers"],
  ["sites", "Sites"],
  ["queues", "Queues"],
  ["jobs", "Jobs"],
  ["dead", "Dead letters"],
  ["tokens", "Tokens"],
  ["audit", "Audit"],
];
const PARENTS = { worker: "workers", job: "jobs" };

export function Shell({ view, children }) {
  const { since } = useStore(health);
  const current = PARENTS[view] || view;
  // On a phone the navigation is one line that scrolls.
  useEffect(() => document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }), [current]);
  return html`<div class="shell">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <aside>
      <a class="brand" href=${link("overview")}><${Logo} /> Edge Relay</a>
      <nav aria-label="Views">${VIEWS.map(([key, label]) => html`<a key=${key} href=${link(key)} aria-current=${current === key ? "page" : null}>${label}</a>`)}</nav>
      <div class="foot"><${Freshness} /><${Theme} /><${Who} /></div>
    </aside>
    <main id="main" tabIndex="-1" class=${since ? "stale" : ""}>${children}</main>
    <${Banner} />
    <${ActionPlace} />
  </div>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const Logo = memo(() => html`<svg viewBox="0 0 32 32" aria-hidden="true" class="logo"><rect width="32" height="32" rx="7" />
  <path d="M8 16h7M15 16l8-7M15 16h9M15 16l8 7" /><circle cx="8" cy="16" r="2.8" /><circle cx="24" cy="9" r="2.2" /><circle cx="25" cy="16" r="2.2" /><circle cx="24" cy="23" r="2.2" /></svg>`);

function Freshness() {
  const { since, streaming } = useStore(health);
  const [text, tone, title] = since
    ? [`Stale since ${clock(new Date(since))}`, "bad", "What is shown may be out of date."]
    : streaming
      ? ["Live", "good", "Changes are shown as they happen."]
      : ["Live, every 2 s", "good", "There is no stream of changes: the page asks every two seconds."];
  return html`<span class=${`freshness ${tone}`} title=${title}><svg viewBox="0 0 8 8" aria-hidden="true">${since ? html`<path d="M4 .5 7.7 7.5H.3z" />` : html`<circle cx="4" cy="4" r="3" />`}</svg>${text}</span>`;
}

/** Over the page, not in it: nothing moves when it comes and goes. */
function Banner() {
  const { since, kind, text } = useStore(health);
  if (!since) return html`<div role="alert" class="banner-place"></div>`;
  const what = {
    relay: "The relay does not answer.",
    broker: "The relay can't reach the message broker.",
    behind: "The relay answers, but what it knows is old: it has lost its connection to the message broker.",
  }[kind];
  const at = new Date(since);
  return html`<div role="alert" class="banner-place"><div class="banner">
    <strong>${what}</strong> What you see is from <time dateTime=${at.toISOString()} title=${local(at)}>${clock(at)}</time> (<${Ago} at=${at.toISOString()} />).
    The page continues by itself.${text && html` <span class="faint">${text}</span>`}
  </div></div>`;
}

const THEMES = { auto: "light", light: "dark", dark: "auto" };

function Theme() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme || "auto");
  const change = () => {
    const next = THEMES[theme];
    setTheme(next);
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("edge-theme", next);
    } catch {
      // Storage is refused, for example in a frame: the choice holds until the page is left.
    }
  };
  return html`<button type="button" class="button plain theme" onClick=${change} title="Change between the system's theme, light and dark">Theme: ${theme}</button>`;
}

/** Nothing to sign out of where Airflow has signed the person in. */
function Who() {
  const who = useStore(session);
  const [failed, setFailed] = useState(false);
  useEffect(() => setFailed(false), [who]);
  const signOut = async () => {
    try {
      await send("DELETE", "session");
      session.set(null);
    } catch (error) {
      setFailed(error.status !== 401);
    }
  };
  const limits = [who.scope?.sites && `sites ${who.scope.sites.join(", ")}`, who.scope?.queues && `queues ${who.scope.queues.join(", ")}`].filter(Boolean);
  return html`<div class="who">
    <span class="who-name" title=${limits.length ? `limited to ${limits.join(" and ")}` : `relay ${who.relay}, version ${who.version}`}>
      ${who.name} <span class="faint">${who.role}${limits.length ? ", limited" : ""}</span></span>
    ${who.by !== "airflow" && html`<button type="button" class="button plain" onClick=${signOut}>Sign out</button>`}
    ${failed && html`<span class="bad" role="alert">Signing out failed: try again.</span>`}
  </div>`;
}

/** The heading of a view, with what stands next to it. */
export function Heading({ title, back = null, children }) {
  useEffect(() => {
    document.title = `${title} · Edge Relay`;
  }, [title]);
  return html`<header class="heading">
    <h1>${back && html`<a href=${back[1]}>${back[0]}</a><span class="sep" aria-hidden="true">/</span>`}<span>${title}</span></h1>
    ${children}
  </header>`;
}
