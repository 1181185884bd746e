/** Dialogs: a click beside one closes it, as does its button with the cross; Escape does by itself. */

import { byId } from "./dom.js";

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    byId(`${dialog.id}-close`).addEventListener("click", () => dialog.close());
    let began = false; // outside: selecting text may end there
    dialog.addEventListener("pointerdown", (event) => { began = isOutside(dialog, event); });
    dialog.addEventListener("click", (event) => {
      if (began && event.detail > 0 && isOutside(dialog, event)) dialog.close(); // a key's click is nowhere
    });
  }
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {MouseEvent} event
 */
function isOutside(dialog, { clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}
