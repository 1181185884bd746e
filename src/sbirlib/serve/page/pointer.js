/** Drawing with a mouse, a finger or a pen. */

/** @import { Point, Stroke } from "./strokes.js" */
/** @import { Sheet } from "./sheet.js" */
/** @import { Tool } from "./tool.js" */

const PRIMARY = 0, PEN_ERASER = 5; // values of event.button
const DRAWING = 1 | 32; // the same buttons, as bits of event.buttons

/**
 * One pointer draws at a time: a second finger is ignored, and a pen that comes while a finger draws takes over, for that finger was a palm.
 * @param {HTMLCanvasElement} canvas
 * @param {Sheet} sheet
 * @param {Tool} tool
 */
export function drawWithPointer(canvas, sheet, tool) {
  /** @type {{id: number, type: string, stroke: Stroke} | null} */
  let active = null;
  let last = { clientX: NaN, clientY: NaN };
  const end = (/** @type {PointerEvent} */ event) => {
    if (event.pointerId !== active?.id) return;
    const { stroke } = active;
    active = null;
    sheet.end(stroke);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== PRIMARY && event.button !== PEN_ERASER) return;
    if (active && active.id !== event.pointerId) {
      if (active.type !== "touch" || event.pointerType !== "pen") return;
      sheet.cancel(active.stroke);
    }
    canvas.setPointerCapture(event.pointerId);
    last = event;
    const erase = tool.erase || event.button === PEN_ERASER;
    const stroke = sheet.begin(point(canvas, event), { width: tool.width, erase });
    active = { id: event.pointerId, type: event.pointerType, stroke };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== active?.id) return;
    if (!(event.buttons & DRAWING)) return end(event); // another button is held on
    if (event.clientX === last.clientX && event.clientY === last.clientY) return; // the page moved below a pointer at rest
    last = event;
    const events = event.getCoalescedEvents?.() ?? []; // all positions since the last frame: a fast curve stays round
    sheet.extend(active.stroke, (events.length > 0 ? events : [event]).map((each) => point(canvas, each)));
  });
  canvas.addEventListener("pointerup", end);
  for (const type of ["pointercancel", "lostpointercapture"]) { // the system took the pointer; a capture that a pointerup ends is no loss
    canvas.addEventListener(type, (event) => {
      if (/** @type {PointerEvent} */ (event).pointerId !== active?.id) return;
      const { stroke } = active;
      active = null;
      sheet.cancel(stroke);
    });
  }
  canvas.addEventListener("contextmenu", (event) => {
    if (active) event.preventDefault(); // a finger that rests draws
  });
}

/**
 * Where an event is on the sheet. Only pens feel pressure: mice and fingers report a constant.
 * @param {HTMLCanvasElement} canvas
 * @param {PointerEvent} event
 * @returns {Point}
 */
function point(canvas, { clientX, clientY, pointerType, pressure }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const [x, y] = [(clientX - left) / width, (clientY - top) / height];
  return pointerType === "pen" ? [x, y, pressure] : [x, y];
}
