/** The sheet's buttons, and the words on and below it. */

import { byId } from "./dom.js";

/** @import { Sheet } from "./sheet.js" */

const PICTURE = "Your picture is searched for. If you draw now, you start anew.";

/**
 * @param {Sheet} sheet
 */
export function showSheet(sheet) {
  const note = byId("sheet-note");
  const button = (/** @type {string} */ id) => /** @type {HTMLButtonElement} */ (byId(id));
  button("undo").addEventListener("click", () => sheet.undo());
  button("redo").addEventListener("click", () => sheet.redo());
  button("mirror").addEventListener("click", () => sheet.mirror());
  button("clear").addEventListener("click", () => sheet.clear());

  const show = () => {
    // a disabled button would lose the focus, and with it the place of someone who uses the keyboard
    for (const [id, possible] of /** @type {const} */ ([["undo", sheet.canUndo], ["redo", sheet.canRedo], ["mirror", !sheet.isEmpty], ["clear", !sheet.isEmpty]])) {
      button(id).setAttribute("aria-disabled", String(!possible));
    }
    byId("invitation").hidden = !sheet.isEmpty;
    note.textContent = sheet.content.picture ? PICTURE : "";
  };
  sheet.addEventListener("change", show);
  sheet.addEventListener("draw", () => { byId("invitation").hidden = true; });
  sheet.addEventListener("cancel", show);
  sheet.addEventListener("full", () => { note.textContent = "The drawing is full: it cannot hold another stroke. Undo or clear some."; });
  show();
}
