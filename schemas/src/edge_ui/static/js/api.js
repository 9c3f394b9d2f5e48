// Calls of the operators' API. The address is relative to the page, so that both may be behind any prefix.
import { Store } from "./lib.js";

const BASE = new URL("../v1/admin/", document.baseURI);
const TIMEOUT_MS = 15000;
const CSRF_HEADER = "Edge-Csrf";
const OUTAGES = ["unreachable", "relay_unavailable", "broker_unavailable", "draining"];

/** Who is signed in: undefined while it is not known, null if nobody is. */
export const session = new Store(undefined);

/** An answer that is no success. `code` is "unreachable" if there was no answer at all. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code || "unexpected";
    this.retryAfter = problem.retry_after_s || null;
  }

  /** Whether the relay or something behind it can't be used now, and may be again. */
  get isOutage() {
    return OUTAGES.includes(this.code) || (this.code === "unexpected" && [502, 503, 504].includes(this.status));
  }
}

/** The address of a path of the API. */
export function address(path) {
  return new URL(path, BASE).href;
}

/** How far the server's clock is ahead of this machine's, in ms. */
export const clockOffset = new Store(0);

export function serverNow() {
  return Date.now() + clockOffset.value;
}

async function call(method, path, { body, etag, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (etag) headers["If-None-Match"] = etag;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session.value?.csrf) headers[CSRF_HEADER] = session.value.csrf;
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: signal || AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "unreachable", detail: "the relay did not answer" });
  }
  noteClock(response);
  if (response.status === 304 || response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401 && session.value) session.set(null);
  throw new ApiError(response.status, problem);
}

function noteClock(response) {
  const date = Date.parse(response.headers.get("Date") || "");
  // The header has whole seconds: only a difference that is larger than this says something.
  if (Number.isNaN(date)) return;
  const offset = date + 500 - Date.now();
  if (Math.abs(offset - clockOffset.value) > 1500) clockOffset.set(offset);
}

/** Reads a path; null if the answer is the one with this ETag. */
export async function read(path, { etag = null, signal } = {}) {
  const timed = signal ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) : undefined;
  const response = await call("GET", path, { etag, signal: timed });
  if (response.status === 304) return null;
  return { data: await response.json(), etag: response.headers.get("ETag") };
}

/** Sends a change; the answer's body, or null if it has none. */
export async function send(method, path, body) {
  const response = await call(method, path, { body });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export async function loadSession() {
  try {
    session.set((await read("session")).data);
  } catch (error) {
    if (error.status !== 401) throw error;
    session.set(null);
  }
}

const ROLES = ["viewer", "operator", "admin"];

/** Whether the person who is signed in has this role or a higher one. */
export function may(role) {
  return Boolean(session.value) && ROLES.indexOf(session.value.role) >= ROLES.indexOf(role);
}
