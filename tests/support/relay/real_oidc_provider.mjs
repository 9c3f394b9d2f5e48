// A provider of the npm package oidc-provider, whose OpenID certification is not ours. Anybody may sign in: the name
// that a person types is their account, with the role "edge-ops".
// Arguments: port, client id, client secret, redirect URI, and "lean" for ID tokens as the specification wants them,
// without the claims of scopes, or "full".
import Provider from "oidc-provider";

const [port, client, secret, redirect, idToken] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: client,
      client_secret: secret,
      redirect_uris: [redirect],
      grant_types: ["authorization_code", "client_credentials"],
      response_types: ["code"],
    },
  ],
  pkce: { required: () => true },
  conformIdTokenClaims: idToken === "lean",
  claims: { openid: ["sub"], profile: ["preferred_username", "roles"], email: ["email"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id, roles: ["edge-ops"] }) }),
  extraTokenClaims: () => ({ roles: ["edge-ops"] }),
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({ scope: "", audience: resource, accessTokenFormat: "jwt" }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
