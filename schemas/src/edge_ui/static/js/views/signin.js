// Signing in: with an access token, or at the identity provider. The relay keeps the session in a cookie that no script
// can read.
import { address, loadSession, read, send } from "../api.js";
import { html, useEffect, useState } from "../lib.js";

export function SignIn() {
  const [methods, setMethods] = useState(null);
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · Edge Relay";
    read("sign-in").then(({ data }) => setMethods(data), setError);
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await send("POST", "sign-in", { token: token.trim() });
      await loadSession();
    } catch (failure) {
      setError(failure);
      setBusy(false);
    }
  };
  if (!methods && (error?.status === 401 || error?.status === 404)) return html`<${InAirflow} />`;
  const isWrong = error?.status === 401 || error?.status === 403;
  return html`<main class="signin"><div class="card">
    <h1>Edge Relay</h1>
    <p class="faint">Workers, queues and jobs at the edge. Sign in to see them.</p>
    ${methods?.oidc && html`<a class="button primary big" href=${`${address("sign-in/oidc")}?after=${encodeURIComponent(location.pathname)}`}>Sign in with ${methods.oidc}</a>`}
    ${methods?.oidc && methods?.token && html`<p class="or"><span>or</span></p>`}
    ${(!methods || methods.token) && html`<form onSubmit=${submit}>
      <label class="field wide"><span>Access token</span>
        <input type="password" name="token" required autocomplete="current-password" value=${token} placeholder="era_…" autofocus onInput=${(event) => setToken(event.target.value)} aria-describedby="token-help" aria-invalid=${isWrong ? "true" : null} />
      </label>
      <p class=${`message ${error ? "bad" : ""}`} role="alert">${error && (isWrong ? "This token is not valid: it is unknown, expired or revoked." : `Signing in failed: ${error.message}. Try again.`)}</p>
      <button type="submit" class=${`button big ${methods?.oidc ? "" : "primary"}`} disabled=${busy || !token.trim()}>${busy ? "Signing in …" : "Sign in"}</button>
    </form>`}
    <details id="token-help"><summary>Where do I get a token?</summary>
      <p>An administrator creates it under Tokens, or with</p>
      <p><code>edge-relay access-token create --name NAME</code></p>
    </details>
  </div></main>`;
}

/** Only inside Airflow can nobody sign in here: Airflow's session has ended. The link opens in the window around the frame. */
function InAirflow() {
  return html`<main class="signin"><div class="card">
    <h1>Sign in to Airflow</h1>
    <p class="faint">Your session in Airflow has ended. Sign in there, then open this page again.</p>
    <a class="button primary big" href=${new URL("../../", document.baseURI).href}>Sign in to Airflow</a>
  </div></main>`;
}
