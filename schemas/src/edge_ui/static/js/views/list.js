// What the lists share.

/** The path of a list with the filters, the order and the page that are in the address. */
export function listPath(path, params, filters, fixed = {}, withCursor = true) {
  const query = new URLSearchParams();
  for (const key of filters) {
    const value = params.get(key);
    if (value) query.set(key, value);
  }
  for (const [key, value] of Object.entries(fixed)) {
    if (value != null) query.set(key, value);
  }
  if (withCursor && params.get("cursor")) query.set("cursor", params.get("cursor"));
  query.sort();
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}
