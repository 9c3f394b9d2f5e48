// The selected rows. They are in the address, so that a link to them can be shared; "*" stands for all that match.
import { useMemo } from "../lib.js";
import { route, setParams } from "../route.js";

const MOST_IN_ADDRESS = 100;

function parse(params) {
  const text = params.get("sel") || "";
  return new Set(text === "*" || !text ? [] : text.split(",").map(decodeURIComponent));
}

function write(names) {
  setParams({ sel: names.size ? [...names].slice(0, MOST_IN_ADDRESS).map(encodeURIComponent).join(",") : null });
}

/** The same function at all times, so that no row is rendered because of it. */
function toggle(key) {
  const names = parse(route.value.params);
  if (!names.delete(key)) names.add(key);
  write(names);
}

export function useSelection(params) {
  const text = params.get("sel") || "";
  return useMemo(() => {
    const everything = text === "*";
    const names = parse(params);
    return {
      everything,
      names,
      toggle,
      isEmpty: !everything && names.size === 0,
      has: (key) => everything || names.has(key),
      page: (keys, on) => {
        const next = new Set(on ? names : [...names].filter((name) => !keys.includes(name)));
        if (on) for (const key of keys) next.add(key);
        write(next);
      },
      all: () => setParams({ sel: "*" }),
      clear: () => setParams({ sel: null }),
    };
  }, [text]);
}
