// The view and its parameters are in the part of the address behind the "#", so that a link can be shared and the same
// files work behind any prefix.
import { Store } from "./lib.js";

function parse(hash) {
  const [path, query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [view, ...rest] = path.split("/");
  let name = rest.length ? rest.join("/") : null;
  try {
    name = name && decodeURIComponent(name);
  } catch {
    // A name that is not encoded correctly is used as it is.
  }
  return { view: view || "overview", name, params: new URLSearchParams(query) };
}

export const route = new Store(parse(location.hash));
window.addEventListener("hashchange", () => route.set(parse(location.hash)));

/** The address of a view; parameters without a value are left out. */
export function link(view, name = null, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value != null && value !== "" && value !== false) query.set(key, String(value));
  }
  const text = query.toString();
  const rest = name === null ? "" : `/${encodeURIComponent(name)}`;
  return `#/${view}${rest}${text ? `?${text}` : ""}`;
}

/** Changes parameters of the current view; null removes one. Filters replace the entry of the browser's history. */
export function setParams(changes, { push = false } = {}) {
  const { view, name, params } = route.value;
  const next = { ...Object.fromEntries(params), ...changes };
  const address = link(view, name, next);
  if (address === location.hash) return;
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  route.set(parse(location.hash));
}

export function go(address) {
  location.hash = address;
}
