/** A ring around the pointer that shows how much the eraser takes. */

import { byId } from "./dom.js";

/** @import { Tool } from "./tool.js" */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Tool} tool
 */
export function showBrush(canvas, tool) {
  const ring = byId("brush");
  canvas.addEventListener("pointermove", ({ offsetX, offsetY, pointerType }) => {
    ring.hidden = !tool.erase || pointerType === "touch"; // a finger hides what is below it
    ring.style.left = `${offsetX}px`;
    ring.style.top = `${offsetY}px`;
  });
  canvas.addEventListener("pointerleave", () => { ring.hidden = true; });
  tool.addEventListener("change", () => {
    ring.style.width = `${100 * tool.width}%`;
    if (!tool.erase) ring.hidden = true;
  });
}
