/** Drawing with the keyboard alone: arrow keys move a mark on the focused sheet, Space puts the pen down and lifts it. */

import { announce, byId } from "./dom.js";

/** @import { Stroke } from "./strokes.js" */
/** @import { Sheet } from "./sheet.js" */
/** @import { Tool } from "./tool.js" */

const STEP = 0.025, SMALL_STEP = 0.005; // of the side
/** @type {Record<string, [number, number]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Sheet} sheet
 * @param {Tool} tool
 */
export function drawWithKeyboard(canvas, sheet, tool) {
  const mark = byId("mark");
  const pressed = new Set(); // two arrow keys together move aslant
  /** @type {Stroke | null} */ let stroke = null;
  let [x, y] = [0.5, 0.5];
  const isDown = () => stroke !== null && sheet.isDrawing(stroke); // an undo, or a pointer, ends a stroke as well

  const show = () => {
    mark.style.left = `${100 * x}%`;
    mark.style.top = `${100 * y}%`;
    mark.style.setProperty("--width", String(tool.width));
    mark.classList.toggle("down", isDown());
    mark.hidden = false;
  };
  const place = () => `at ${Math.round(100 * x)} % across, ${Math.round(100 * y)} % down`;
  const lift = () => {
    if (!stroke || !isDown()) return;
    sheet.end(stroke);
    announce(`Pen up ${place()}.`);
  };
  const lower = () => {
    stroke = sheet.begin([x, y], tool);
    announce(`Pen down ${place()}.`);
  };
  const move = (/** @type {boolean} */ small) => {
    const step = small ? SMALL_STEP : STEP;
    for (const key of pressed) {
      x = Math.min(1, Math.max(0, x + step * DIRECTIONS[key][0]));
      y = Math.min(1, Math.max(0, y + step * DIRECTIONS[key][1]));
    }
    if (stroke) sheet.extend(stroke, [[x, y]]);
  };

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in DIRECTIONS) {
      pressed.add(event.key);
      move(event.shiftKey);
    } else if (event.key === " ") {
      if (event.repeat) return event.preventDefault();
      if (isDown()) lift();
      else lower();
    } else if (event.key === "Escape" && isDown()) {
      lift();
    } else return;
    event.preventDefault(); // or the page would scroll
    show();
  });
  canvas.addEventListener("keyup", (event) => pressed.delete(event.key));
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) show();
  });
  canvas.addEventListener("blur", () => {
    pressed.clear();
    lift();
    mark.hidden = true;
  });
  canvas.addEventListener("pointerdown", () => { mark.hidden = true; });
  tool.addEventListener("change", () => { if (!mark.hidden) show(); });
}
