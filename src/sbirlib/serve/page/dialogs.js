/** Dialogs: a click beside one closes it, as does its button with the cross; Escape does by itself. */

import { byId } from "./dom.js";

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    byId(`${dialog.id}-close`).addEventListener("click", () => dialog.close());
    let outside = false; // where the click began: selecting text may end outside
    dialog.addEventListener("pointerdown", ({ target }) => { outside = target === dialog; });
    dialog.addEventListener("click", ({ target }) => {
      if (outside && target === dialog) dialog.close();
    });
  }
}
