/** Strokes in unit coordinates, as the server takes them: pure functions that know no page. */

/**
 * x to the right and y down, in [0, 1] on the sheet, and a pen's pressure in [0, 1].
 * @typedef {[number, number] | [number, number, number]} Point
 */
/**
 * A line of points; `width` is a share of the sheet's side. With pressure the local width is width * (0.5 + pressure).
 * @typedef {{points: Point[], width: number, erase: boolean}} Stroke
 */

const TOLERANCE = 0.001; // of the side: less than a pixel of the image that the server makes
const TAPER = 0.002; // of the side: a segment has one width, so its ends may not differ by more

/**
 * A stroke as it was drawn, in any number of points and beyond the sheet, to the strokes that are kept: parts on the sheet, in few points.
 * @param {Stroke} stroke
 * @returns {Stroke[]}
 */
export function finished({ points, width, erase }) {
  return clip(points).map((part) => ({ points: simplify(part, width).map(rounded), width, erase }));
}

/**
 * Flip left to right.
 * @param {readonly Stroke[]} strokes
 * @returns {Stroke[]}
 */
export function mirror(strokes) {
  const flip = (/** @type {Point} */ [x, y, ...pressure]) => /** @type {Point} */ ([round(1 - x), y, ...pressure]);
  return strokes.map((stroke) => ({ ...stroke, points: stroke.points.map(flip) }));
}

/**
 * @param {readonly Stroke[]} strokes
 */
export function countPoints(strokes) {
  return strokes.reduce((sum, stroke) => sum + stroke.points.length, 0);
}

/**
 * Leave out points that lie on the line between others, nearly (Ramer 1972, Douglas and Peucker 1973); pressure is a third coordinate.
 * @param {Point[]} points
 * @param {number} width
 * @returns {Point[]}
 */
export function simplify(points, width) {
  const keep = new Set([0, points.length - 1]);
  const open = [[0, points.length - 1]];
  for (let span = open.pop(); span; span = open.pop()) {
    const [first, last] = span;
    let farthest = first, most = TOLERANCE;
    for (let i = first + 1; i < last; i++) {
      const distance = fromSegment(points[i], points[first], points[last], width);
      if (distance > most) [farthest, most] = [i, distance];
    }
    const taper = Math.abs((points[first][2] ?? 0) - (points[last][2] ?? 0)) * width;
    if (farthest === first && taper > TAPER && last - first > 1) farthest = (first + last) >> 1;
    if (farthest === first) continue;
    keep.add(farthest);
    open.push([first, farthest], [farthest, last]);
  }
  return points.filter((_, i) => keep.has(i));
}

/**
 * Distance of a point from the segment between two others, with the line's thickness as a third coordinate.
 * @param {Point} point
 * @param {Point} from
 * @param {Point} to
 * @param {number} width
 */
function fromSegment(point, from, to, width) {
  const space = (/** @type {Point} */ [x, y, pressure = 0]) => [x, y, pressure * width];
  const [p, a, b] = [point, from, to].map(space);
  const along = b.map((value, i) => value - a[i]);
  const length = along.reduce((sum, value) => sum + value * value, 0);
  const dot = along.reduce((sum, value, i) => sum + value * (p[i] - a[i]), 0);
  const share = length > 0 ? Math.min(1, Math.max(0, dot / length)) : 0;
  return Math.hypot(...p.map((value, i) => value - a[i] - share * along[i]));
}

/**
 * The parts of a line that lie on the sheet, each segment clipped (Liang and Barsky 1984).
 * @param {Point[]} points
 * @returns {Point[][]}
 */
export function clip(points) {
  const onSheet = (/** @type {Point} */ [x, y]) => x >= 0 && x <= 1 && y >= 0 && y <= 1;
  if (points.length === 1) return onSheet(points[0]) ? [points] : [];
  /** @type {Point[][]} */
  const parts = [];
  let connected = false; // the last part ends where this segment begins
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1], points[i]];
    const range = inside(from, to);
    if (!range) {
      connected = false;
      continue;
    }
    const end = between(from, to, range[1]);
    if (connected) parts[parts.length - 1].push(end);
    else parts.push([between(from, to, range[0]), end]);
    connected = range[1] === 1;
  }
  return parts;
}

/**
 * The shares of a segment between which it lies on the sheet; null where it does nowhere.
 * @param {Point} from
 * @param {Point} to
 * @returns {[number, number] | null}
 */
function inside([x, y], [toX, toY]) {
  let [first, last] = [0, 1];
  for (const [step, room] of [[x - toX, x], [toX - x, 1 - x], [y - toY, y], [toY - y, 1 - y]]) {
    if (step === 0 && room < 0) return null;
    if (step < 0) first = Math.max(first, room / step);
    if (step > 0) last = Math.min(last, room / step);
  }
  return first <= last ? [first, last] : null;
}

/**
 * @param {Point} from
 * @param {Point} to
 * @param {number} share
 * @returns {Point}
 */
function between(from, to, share) {
  if (share === 0) return from;
  if (share === 1) return to;
  return /** @type {Point} */ (from.map((value, i) => value + share * (/** @type {number} */ (to[i]) - value)));
}

/**
 * @param {Point} point
 * @returns {Point}
 */
function rounded(point) {
  return /** @type {Point} */ (point.map((value) => round(Math.min(1, Math.max(0, value)))));
}

/** Four decimals, a fifth of a pixel on a sheet of 2000: a drawing stays small on its way to the server. */
function round(/** @type {number} */ value) {
  return Math.round(value * 1e4) / 1e4;
}
