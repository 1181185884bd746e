/** Keys of the whole page. Those that are a single character can be turned off, for people who dictate or whose keys repeat. */

import { byId } from "./dom.js";

/** @import { Filters } from "./filters.js" */
/** @import { Sheet } from "./sheet.js" */
/** @import { Tool } from "./tool.js" */

const STORE = "sbirlib single keys";

/**
 * @param {Sheet} sheet
 * @param {Tool} tool
 * @param {Filters} filters
 */
export function listenToKeys(sheet, tool, filters) {
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  const single = /** @type {HTMLInputElement} */ (byId("single-keys"));
  /** @type {Record<string, () => void>} */
  const characters = {
    "e": () => tool.take(!tool.erase),
    "m": () => sheet.mirror(),
    "[": () => tool.widen(-1),
    "]": () => tool.widen(1),
    "/": () => filters.focus(),
    "?": () => help.showModal(),
  };

  single.checked = remembered() !== "off";
  single.addEventListener("change", () => remember(single.checked ? "on" : "off"));
  for (const id of ["help-open", "help-keys"]) byId(id).addEventListener("click", () => help.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z" && event.shiftKey || key === "y" && event.ctrlKey) sheet.redo();
      else if (key === "z") sheet.undo();
      else return;
    } else if (key === "delete" || key === "backspace") {
      sheet.clear();
    } else if (single.checked && key in characters) {
      if (!event.repeat || "[]".includes(key)) characters[key]();
    } else return;
    event.preventDefault();
  });
}

/** Whether keys write text there. */
function isTyping(/** @type {EventTarget | null} */ target) {
  return target instanceof HTMLInputElement && ["search", "text"].includes(target.type);
}

function remembered() {
  try {
    return localStorage.getItem(STORE);
  } catch {
    return null; // a browser that stores nothing
  }
}

function remember(/** @type {string} */ value) {
  try {
    localStorage.setItem(STORE, value);
  } catch {
    // the choice lasts as long as the page
  }
}
