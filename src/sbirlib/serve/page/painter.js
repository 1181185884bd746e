/** Strokes on a canvas whose coordinates run from 0 to 1: black on white, erasing ones white, in order, as the server paints them. */

/** @import { Stroke } from "./strokes.js" */
/** @import { Content } from "./history.js" */

/**
 * Paint all of a sheet.
 * @param {CanvasRenderingContext2D} context
 * @param {Content} content
 */
export function paint(context, { strokes, picture }) {
  context.fillStyle = "white";
  context.fillRect(0, 0, 1, 1);
  if (picture) {
    const { width, height } = picture.image;
    const scale = 1 / Math.max(width, height);
    context.drawImage(picture.image, (1 - width * scale) / 2, (1 - height * scale) / 2, width * scale, height * scale);
  }
  for (const stroke of strokes) paintStroke(context, stroke);
}

/**
 * Paint a stroke, or what was added to it from point `from` on: opaque ink may be painted twice.
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 */
export function paintStroke(context, { points, width, erase }, from = 0) {
  context.strokeStyle = context.fillStyle = erase ? "white" : "black";
  context.lineCap = context.lineJoin = "round";
  const first = points[Math.max(0, from - 1)];
  if (points.length === 1) {
    context.beginPath();
    context.arc(first[0], first[1], thickness(width, first[2]) / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  let [x, y, pressure] = first;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x, y);
  for (const [nextX, nextY, next] of points.slice(Math.max(1, from))) {
    context.lineTo(nextX, nextY);
    if (next !== undefined && pressure !== undefined) { // each segment has a width of its own
      context.lineWidth = thickness(width, (pressure + next) / 2);
      context.stroke();
      context.beginPath();
      context.moveTo(nextX, nextY);
    }
    pressure = next;
  }
  context.stroke();
}

/**
 * @param {number} width
 * @param {number} [pressure]
 */
function thickness(width, pressure) {
  return pressure === undefined ? width : width * (0.5 + pressure);
}
