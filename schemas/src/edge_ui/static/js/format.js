// Numbers, sizes and times in words. Pure functions.

const STEPS = [
  [60, 1, "second"],
  [3600, 60, "minute"],
  [86400, 3600, "hour"],
  [86400 * 60, 86400, "day"],
  [86400 * 730, 86400 * 30, "month"],
  [Infinity, 86400 * 365, "year"],
];

const NUMBER = new Intl.NumberFormat("en");

export function count(value) {
  return value == null ? "–" : NUMBER.format(value);
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A digest as people compare it. */
export function shortDigest(digest) {
  return digest.slice(0, 12);
}

/** "3 minutes", for a length in seconds. */
export function span(seconds) {
  const length = Math.max(0, seconds);
  if (length < 1) return "less than a second";
  const [, unit, name] = STEPS.find(([limit]) => length < limit);
  const value = Math.floor(length / unit);
  return `${value} ${name}${value === 1 ? "" : "s"}`;
}

/** "3 minutes ago" or "in 2 hours". */
export function relative(seconds) {
  if (Math.abs(seconds) < 2) return "now";
  return seconds >= 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
}

/** "3m", for narrow columns; the full words are in its title. */
export function shortSpan(seconds) {
  const length = Math.max(0, Math.floor(seconds));
  if (length < 60) return `${length} s`;
  if (length < 3600) return `${Math.floor(length / 60)} min ${length % 60} s`;
  if (length < 86400) return `${Math.floor(length / 3600)} h ${Math.floor((length % 3600) / 60)} min`;
  return `${Math.floor(length / 86400)} d ${Math.floor((length % 86400) / 3600)} h`;
}

function two(value) {
  return String(value).padStart(2, "0");
}

/** "2026-11-29 14:03:20", in the reader's time zone. */
export function local(date) {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${clock(date)}`;
}

/** "14:03:20", in the reader's time zone. */
export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** "2026-10-25 02:30:00 +01:00": with the offset, for an hour that comes twice when the clocks are set back. */
export function zoned(date) {
  const minutes = -date.getTimezoneOffset();
  const size = Math.abs(minutes);
  return `${local(date)} ${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** The instant of a field "until"; null if there is none. A typed text that names two instants means the first. */
export function instantOf(value) {
  const date = new Date(value?.instant ?? value ?? "");
  return Number.isNaN(date.getTime()) ? null : date;
}

/** The instant exactly, for a title: the reader's time and UTC. */
export function exact(text) {
  const date = new Date(text);
  return `${zoned(date)} (${date.toISOString()})`;
}

export function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${size >= 10 || unit === 0 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

export function percent(ratio) {
  return ratio == null ? "–" : `${Math.round(ratio * 100)} %`;
}

/** A setting in seconds, as people write it. */
export function seconds(value) {
  if (value == null) return "default";
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (value >= unit && value % unit === 0) return `${value / unit} ${name}`;
  }
  return `${value} s`;
}

/** The value of a field, as the audit shows it. */
export function plain(value) {
  if (value == null) return "none";
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : "none";
  if (typeof value === "object") {
    const parts = Object.entries(value).map(([key, part]) => `${key}: ${plain(part)}`);
    return parts.length ? parts.join("; ") : "none";
  }
  return String(value);
}
