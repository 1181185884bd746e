/** A search in the address: the drawing, the filters and the reference photo, in the fragment, which browsers never send to a server. */

import { Reader, Writer } from "./bytes.js";

/** @import { Point, Stroke } from "./strokes.js" */
/** @import { Where } from "./server.js" */

/** @typedef {{id: string, name: string, share: number}} Reference  a photo to be like, and the share of the drawing's score */
/** @typedef {{strokes: readonly Stroke[], where: Where, reference: Reference | null}} Linked */

const VERSION = 1;
const PLACES = 1023, WIDTHS = 8191, PRESSURES = 63; // steps of a coordinate, a width, a pressure
const WIDEST = 0.5;
const ERASE = 1, PRESSURE = 2; // flags of a stroke

/**
 * @param {Linked} search
 * @returns {string} the fragment without its #, empty for an empty search
 */
export function toFragment({ strokes, where, reference }) {
  const fields = new URLSearchParams();
  if (strokes.length > 0) fields.set("d", encode(strokes));
  if (Object.keys(where).length > 0) fields.set("where", JSON.stringify(where));
  if (reference) {
    fields.set("like", reference.id);
    fields.set("name", reference.name);
    fields.set("share", String(reference.share));
  }
  return fields.toString();
}

/**
 * Read a fragment that anyone may have written: what does not fit is left out.
 * @param {string} fragment
 * @returns {Linked}
 */
export function fromFragment(fragment) {
  const fields = new URLSearchParams(fragment);
  const id = fields.get("like");
  const share = Math.min(1, Math.max(0, Number(fields.get("share")) || 0));
  return {
    strokes: attempt(() => decode(fields.get("d") ?? "")) ?? [],
    where: attempt(() => checked(JSON.parse(fields.get("where") ?? "{}"))) ?? {},
    reference: id ? { id, name: fields.get("name") ?? "", share } : null,
  };
}

/**
 * Each point as its difference from the one before, mostly two bytes.
 * @param {readonly Stroke[]} strokes
 */
export function encode(strokes) {
  const writer = new Writer();
  writer.unsigned(VERSION);
  let last = [0, 0, 0];
  for (const { points, width, erase } of strokes) {
    const hasPressure = points.every((point) => point.length === 3);
    writer.unsigned((erase ? ERASE : 0) + (hasPressure ? PRESSURE : 0));
    writer.unsigned(Math.round(width * WIDTHS));
    writer.unsigned(points.length);
    for (const [x, y, pressure = 0] of points) {
      const next = [Math.round(x * PLACES), Math.round(y * PLACES), Math.round(pressure * PRESSURES)];
      for (let i = 0; i < (hasPressure ? 3 : 2); i++) writer.signed(next[i] - last[i]);
      last = next;
    }
  }
  return writer.text();
}

/**
 * @param {string} text
 * @returns {Stroke[]}
 */
export function decode(text) {
  const reader = new Reader(text);
  /** @type {Stroke[]} */
  const strokes = [];
  if (reader.left === 0) return strokes;
  if (reader.unsigned() !== VERSION) throw new RangeError("the drawing is of another version");
  const last = [0, 0, 0];
  const scale = [PLACES, PLACES, PRESSURES];
  while (reader.left > 0) {
    const flags = reader.unsigned();
    const width = share(reader.unsigned(), WIDTHS);
    const count = reader.unsigned();
    if (width === 0 || width > WIDEST) throw new RangeError("a stroke has a width that nobody draws");
    if (count === 0 || count > reader.left) throw new RangeError("a stroke has more points than the text has bytes");
    const numbers = flags & PRESSURE ? 3 : 2;
    const points = Array.from({ length: count }, () => {
      for (let i = 0; i < numbers; i++) last[i] += reader.signed();
      return /** @type {Point} */ (last.slice(0, numbers).map((value, i) => share(value, scale[i])));
    });
    strokes.push({ points, width, erase: Boolean(flags & ERASE) });
  }
  return strokes;
}

/**
 * @param {number} steps
 * @param {number} all
 */
function share(steps, all) {
  if (steps < 0 || steps > all) throw new RangeError("a number is out of its range");
  return Math.round((1e4 * steps) / all) / 1e4;
}

/**
 * @param {unknown} where
 * @returns {Where}
 */
function checked(where) {
  if (typeof where !== "object" || where === null) return {};
  const isValue = (/** @type {unknown} */ value) => value === null || ["string", "number", "boolean"].includes(typeof value);
  const valid = Object.entries(where).filter(([, values]) => Array.isArray(values) && values.length > 0 && values.every(isValue));
  return Object.fromEntries(valid);
}

/**
 * @template T
 * @param {() => T} read
 * @returns {T | null}
 */
function attempt(read) {
  try {
    return read();
  } catch {
    return null;
  }
}
